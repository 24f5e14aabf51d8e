import { randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { platformAudit } from '../setup/platform-audit.js';
import { Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
});
afterAll(() => app?.close());

const login = (email: string, password: string) => app.anonymous.post('/auth/login', { email, password });
const register = (email: unknown, more: object = {}) =>
  app.anonymous.post('/auth/register', { email, password: 'a password of some length', ...more });

describe('an e-mail address', () => {
  it('is one account in every case, and keeps what stands behind a plus', async () => {
    const { body } = await expectStatus(201, register('Ada+Work@Example.COM'));
    expect(body.user.email).toBe('ada+work@example.com');
    expectProblem(await register('ada+WORK@example.com'), 409, 'email_taken');
    expect((await register('ada+home@example.com')).status).toBe(201);
    expect((await register('ada@example.com')).status).toBe(201);
    expect((await login('ADA+work@example.com', 'a password of some length')).status).toBe(200);
  });

  it.each([
    ['with a Cyrillic а', '\u0430da@example.com'],
    ['with a Cyrillic domain', 'ada@\u0435\u0445ample.com'],
    ['with a long s', 'a\u017fa@example.com'],
    ['with a Kelvin sign', 'a\u212aa@example.com'],
    ['with a fullwidth letter', '\uff41da@example.com'],
    ['with an invisible character', 'a\u200bda@example.com'],
    ['with a line break', 'ada@example.com\r\nBcc: eve@example.com'],
    ['of two', 'ada@example.com,eve@example.com'],
    ['with a name', 'Ada <ada@example.com>'],
    ['without a domain', 'ada@localhost'],
    ['that is too long', `${'x'.repeat(60)}@${'y'.repeat(200)}.com`],
    ['with too much before the @', `${'x'.repeat(65)}@example.com`],
    ['that is no text', 7],
    ['that is nothing', null],
  ])('is none %s', async (_, email) => {
    const answer = await register(email);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toMatchObject([{ path: 'email' }]);
  });
});

describe('a profile', () => {
  it('has a user name that nobody else has, whatever its case', async () => {
    const [one, other] = [await app.createUser(), await app.createUser()];
    expect((await one.client.patch('/auth/me', { username: 'Grace.Hopper' })).body.username).toBe(
      'Grace.Hopper',
    );
    expectProblem(await other.client.patch('/auth/me', { username: 'grace.hopper' }), 409, 'username_taken');
    expect((await one.client.patch('/auth/me', { username: 'grace.hopper' })).status).toBe(200);
    expect((await one.client.patch('/auth/me', { username: null })).body.username).toBeNull();
    expect((await other.client.patch('/auth/me', { username: 'GRACE.HOPPER' })).status).toBe(200);
  });

  it('gets a user name that two want at once for one of them', async () => {
    const users = await Promise.all(Array.from({ length: 4 }, () => app.createUser()));
    const answers = await Promise.all(
      users.map(({ client }) => client.patch('/auth/me', { username: 'wanted', display_name: 'Wanted' })),
    );
    expect(answers.map(answer => answer.status).toSorted()).toEqual([200, 409, 409, 409]);
    // Whoever did not get it has kept everything as it was.
    const names = await Promise.all(users.map(async ({ client }) => (await client.get('/auth/me')).body));
    expect(names.filter(({ display_name }) => display_name === 'Wanted')).toHaveLength(1);
  });

  it.each([
    ['a user name of another alphabet', { username: '\u0430da' }],
    ['an empty user name', { username: '' }],
    ['a user name that begins with a dot', { username: '.ada' }],
    ['a user name with a space', { username: 'ada lovelace' }],
    ['a user name that is too long', { username: 'x'.repeat(64) }],
    ['an empty name', { display_name: ' ' }],
    ['a name that is too long', { display_name: 'x'.repeat(201) }],
    ['a picture that is a script', { avatar_url: 'javascript:alert(1)' }],
    ['an address of a picture that is too long', { avatar_url: `https://example.com/${'x'.repeat(2000)}` }],
    ['an e-mail address', { email: 'somebody@example.com' }],
    ['a password', { password: 'a password of some length' }],
  ])('does not take %s', async (_, body) => {
    const { client } = await app.createUser();
    expectProblem(await client.patch('/auth/me', body), 422, 'validation_failed');
  });

  it('is written down when it changes, before and after', async () => {
    const user = await app.createUser();
    await expectStatus(200, user.client.patch('/auth/me', { display_name: 'Renamed', language: 'en' }));
    await expectStatus(200, user.client.patch('/auth/me', { display_name: 'Renamed' }));
    const entries = (await platformAudit(app, 'user.updated')).filter(entry => entry.resource_id === user.id);
    expect(entries).toHaveLength(1);
    expect(entries[0]).toMatchObject({
      actor_type: 'user',
      actor_id: user.id,
      details: { before: { display_name: expect.any(String) }, after: { display_name: 'Renamed' } },
    });
  });
});

describe('sessions', () => {
  it('are listed, with the one that asks marked', async () => {
    const user = await app.createUser();
    const elsewhere = await expectStatus(
      200,
      app.anonymous
        .withHeaders({ 'user-agent': 'A browser of the tests' })
        .post('/auth/login', { email: user.email, password: user.password }),
    );
    const { body } = await expectStatus(200, user.client.get('/auth/sessions'));
    expect(body).toMatchObject({ total: 2, page: 1, page_size: 20 });
    expect(body.items).toMatchObject([
      { current: false, user_agent: 'A browser of the tests', ip: '127.0.0.1', active_tenant_id: null },
      { current: true, ip: '127.0.0.1' },
    ]);
    expect(Object.keys(body.items[0]).toSorted()).toEqual([
      'active_tenant_id',
      'created_at',
      'current',
      'expires_at',
      'id',
      'ip',
      'last_used_at',
      'user_agent',
    ]);
    expect(JSON.stringify(body)).not.toMatch(/hash|token/);
    const other = app.anonymous.withToken(elsewhere.body.access_token);
    expect((await other.get('/auth/sessions?page=2&page_size=1')).body.items).toMatchObject([
      { current: false },
    ]);
  });

  it('are ended one by one, at once, by whose they are', async () => {
    const user = await app.createUser();
    const stranger = await app.createUser();
    const other = (await expectStatus(200, login(user.email, user.password))).body;
    const { items } = (await user.client.get('/auth/sessions')).body;
    const id = items.find((session: { current: boolean }) => !session.current).id;
    expectProblem(await stranger.client.delete(`/auth/sessions/${id}`), 404, 'not_found');
    expectProblem(await app.admin.delete(`/auth/sessions/${id}`), 404, 'not_found');
    expectProblem(await user.client.delete(`/auth/sessions/${uuidv7()}`), 404, 'not_found');
    expectProblem(await user.client.delete('/auth/sessions/x'), 404, 'not_found');
    const otherClient = app.anonymous.withToken(other.access_token);
    expect((await otherClient.get('/auth/me')).status).toBe(200);
    expect((await user.client.delete(`/auth/sessions/${id}`)).status).toBe(204);
    expectProblem(await otherClient.get('/auth/me'), 401, 'invalid_token');
    expectProblem(
      await app.anonymous.post('/auth/refresh', { refresh_token: other.refresh_token }),
      401,
      'invalid_refresh_token',
    );
    expectProblem(await user.client.delete(`/auth/sessions/${id}`), 404, 'not_found');
    expect((await user.client.get('/auth/sessions')).body.total).toBe(1);
    expect((await platformAudit(app, 'session.revoked')).at(-1)).toMatchObject({
      actor_id: user.id,
      resource_id: id,
    });
  });

  it('are ended all but the one that asks', async () => {
    const user = await app.createUser();
    const others = await Promise.all([1, 2, 3].map(() => login(user.email, user.password)));
    expect((await user.client.delete('/auth/sessions')).status).toBe(204);
    for (const { body } of others) {
      expectProblem(await app.anonymous.withToken(body.access_token).get('/auth/me'), 401, 'invalid_token');
    }
    expect((await user.client.get('/auth/me')).status).toBe(200);
    expect((await user.client.delete('/auth/sessions')).status).toBe(204);
  });

  it('may end themselves', async () => {
    const user = await app.createUser();
    const { items } = (await user.client.get('/auth/sessions')).body;
    expect((await user.client.delete(`/auth/sessions/${items[0].id}`)).status).toBe(204);
    expectProblem(await user.client.get('/auth/me'), 401, 'invalid_token');
  });

  it.runIf(SERVER)('end in every process within a second', async () => {
    const user = await app.createUser();
    const other = await app.startAnother({ http: true, jobs: false });
    const there = new Client(other.url as string, user.client.token);
    expect((await there.get('/auth/me')).status).toBe(200);
    const second = (await expectStatus(200, login(user.email, user.password))).body;
    await expectStatus(204, app.anonymous.withToken(second.access_token).delete('/auth/sessions'));
    await expect.poll(async () => (await there.get('/auth/me')).status, { timeout: 1_000 }).toBe(401);
  });

  it('are written down when they begin and end, and when they are refused', async () => {
    const user = await app.createUser();
    const byUser = async (action: string) =>
      (await platformAudit(app, action)).filter(entry => entry.actor_id === user.id);
    expect((await platformAudit(app, 'user.registered')).at(-1)).toMatchObject({ resource_id: user.id });
    expect(await byUser('auth.signed_in')).toMatchObject([{ actor_type: 'user', outcome: 'allowed' }]);
    await expectStatus(401, login(user.email, 'not the password'));
    const denied = (await platformAudit(app, 'auth.signed_in')).at(-1);
    expect(denied).toMatchObject({
      actor_type: 'anonymous',
      outcome: 'denied',
      details: { email: user.email },
    });
    expect(JSON.stringify(denied)).not.toContain('not the password');
    await expectStatus(204, user.client.post('/auth/logout'));
    expect(await byUser('auth.signed_out')).toHaveLength(1);
    const me = (await expectStatus(200, login(user.email, user.password))).body;
    expect(
      (await app.anonymous.withToken(me.access_token).get('/auth/me')).body.last_login_at,
    ).not.toBeNull();
  });
});

describe('invitations', () => {
  const invite = (tenantId: string, email: string, fields: Record<string, unknown> = {}) =>
    app.application.nest.get(PlatformDatabase, { strict: false }).run(tx =>
      tx.query(
        `INSERT INTO invitations (id, tenant_id, email, roles, message, token_hash, status, invited_by, expires_at)
         VALUES ($1, $2, $3, '{editor}', 'Join us.', $4, $5, $6, now() + $7::interval)`,
        [
          uuidv7(),
          tenantId,
          email,
          randomBytes(32),
          fields['status'] ?? 'pending',
          fields['invitedBy'] ?? null,
          fields['expires'] ?? '1 day',
        ],
      ),
    );

  it('of all tenants are listed for whoever has the address, while they are open', async () => {
    const [north, south, closed] = [
      await app.createTenant('inviting-north'),
      await app.createTenant('inviting-south'),
      await app.createTenant('inviting-closed'),
    ];
    const user = await app.createUser();
    const inviter = await app.createUser('inviter');
    await invite(north.id, user.email.toUpperCase(), { invitedBy: inviter.id });
    await invite(south.id, user.email);
    await invite(north.id, 'somebody-else@example.com');
    await invite(north.id, user.email, { status: 'declined' });
    await invite(closed.id, user.email);
    await expectStatus(200, app.admin.post('/tenants/inviting-closed/suspend'));
    const { body } = await expectStatus(200, user.client.get('/auth/invitations'));
    expect(body).toMatchObject({ total: 2, page: 1 });
    expect(body.items).toMatchObject([
      { tenant: { id: south.id, name: 'inviting-south' }, invited_by: null },
      {
        tenant: { id: north.id, name: 'inviting-north' },
        roles: ['editor'],
        message: 'Join us.',
        invited_by: { id: inviter.id, display_name: 'inviter' },
      },
    ]);
    expect(JSON.stringify(body)).not.toMatch(/token|hash/);
    expect((await inviter.client.get('/auth/invitations')).body.total).toBe(0);
    const expired = await app.createUser();
    await invite(south.id, expired.email, { expires: '-1 second' });
    expect((await expired.client.get('/auth/invitations')).body.items).toEqual([]);
  });
});
