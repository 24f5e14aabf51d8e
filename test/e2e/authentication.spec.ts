import { JwtService } from '@nestjs/jwt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { ADMIN, type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { TEST_SECRET } from '../setup/database.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
});
afterAll(() => app?.close());

const login = (email: string, password: string, more: object = {}) =>
  app.anonymous.post('/auth/login', { email, password, ...more });
const refresh = (token: string) => app.anonymous.post('/auth/refresh', { refresh_token: token });
const claimsOf = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString()) as Record<string, unknown>;

describe('an account', () => {
  const password = 'correct horse battery staple';

  it('is made, and signs in, whatever the case of its address', async () => {
    const made = await expectStatus(
      201,
      app.anonymous.post('/auth/register', { email: 'Ada@Example.com', password, display_name: ' Ada ' }),
    );
    expect(made.body).toMatchObject({
      token_type: 'Bearer',
      expires_in: 900,
      user: { email: 'ada@example.com', display_name: 'Ada', is_active: true },
    });
    expect(JSON.stringify(made.body)).not.toMatch(/password|argon2/);
    const again = await login('ADA@EXAMPLE.COM', password);
    expect(again).toMatchObject({ status: 200, body: { user: { id: made.body.user.id } } });
    const me = await app.anonymous.withToken(again.body.access_token).get('/auth/me');
    expect(me).toMatchObject({
      status: 200,
      body: { id: made.body.user.id, active_tenant_id: null, platform_roles: [], tenants: [] },
    });
  });

  it('has an address of its own, also when two ask for it at once', async () => {
    const taken = await app.anonymous.post('/auth/register', { email: 'ada@EXAMPLE.com', password });
    expectProblem(taken, 409, 'email_taken');
    const both = await Promise.all(
      ['Twin@example.com', 'twin@example.com'].map(email =>
        app.anonymous.post('/auth/register', { email, password }),
      ),
    );
    expect(both.map(answer => answer.status).toSorted()).toEqual([201, 409]);
  });

  it('cannot be told from one that does not exist', async () => {
    const wrong = await login('ada@example.com', 'not the password');
    const unknown = await login('nobody@example.com', 'not the password');
    expectProblem(wrong, 401, 'invalid_credentials');
    const { request_id: _a, ...one } = wrong.body;
    const { request_id: _b, ...other } = unknown.body;
    expect(one).toEqual(other);
    expect(wrong.headers.get('www-authenticate')).toBe('Bearer');
  });

  it('changes its profile, and nothing else of itself', async () => {
    const { client, id } = await app.createUser();
    const changed = await client.patch('/auth/me', {
      display_name: 'Grace',
      username: 'grace',
      timezone: 'Europe/Zurich',
    });
    expect(changed).toMatchObject({
      status: 200,
      body: { id, display_name: 'Grace', username: 'grace', timezone: 'Europe/Zurich', language: 'en' },
    });
    expectProblem(await client.patch('/auth/me', { timezone: 'Mars/Olympus' }), 422, 'validation_failed');
    expectProblem(
      await client.patch('/auth/me', { is_active: false, platform_roles: ['platform_admin'] }),
      422,
      'validation_failed',
    );
    expect((await client.get('/auth/me')).body).toMatchObject({
      display_name: 'Grace',
      is_active: true,
      platform_roles: [],
    });
  });

  it('that is deactivated neither signs in nor gets new tokens', async () => {
    const user = await app.createUser();
    const database = app.application.nest.get(PlatformDatabase, { strict: false });
    await database.run(tx => tx.query('UPDATE users SET is_active = false WHERE id = $1', [user.id]));
    expectProblem(await login(user.email, user.password), 401, 'invalid_credentials');
    expectProblem(await refresh(user.refreshToken), 401, 'invalid_refresh_token');
  });

  it('is locked for a while after ten wrong passwords, for its own too', async () => {
    const user = await app.createUser();
    for (let i = 0; i < 10; i++) expect((await login(user.email, 'wrong')).status).toBe(401);
    const locked = await login(user.email.toUpperCase(), user.password);
    expectProblem(locked, 429, 'rate_limited');
    expect(Number(locked.headers.get('retry-after'))).toBeGreaterThan(60);
  });
});

describe('a session', () => {
  it('rotates its refresh token', async () => {
    const user = await app.createUser();
    const { body } = await expectStatus(200, refresh(user.refreshToken));
    expect(body.refresh_token).not.toBe(user.refreshToken);
    expect((await app.anonymous.withToken(body.access_token).get('/auth/me')).body.id).toBe(user.id);
    expect((await refresh(body.refresh_token)).status).toBe(200);
  });

  it('ends at once, with every token of it, when an old refresh token comes back', async () => {
    const user = await app.createUser();
    const { body } = await expectStatus(200, refresh(user.refreshToken));
    expect((await user.client.get('/auth/me')).status).toBe(200);
    expectProblem(await refresh(user.refreshToken), 401, 'invalid_refresh_token');
    expectProblem(await user.client.get('/auth/me'), 401, 'invalid_token');
    expectProblem(await app.anonymous.withToken(body.access_token).get('/auth/me'), 401, 'invalid_token');
    expectProblem(await refresh(body.refresh_token), 401, 'invalid_refresh_token');
    expect((await login(user.email, user.password)).status).toBe(200);
  });

  it('gives new tokens to one of two who refresh at once', async () => {
    const user = await app.createUser();
    const both = await Promise.all([refresh(user.refreshToken), refresh(user.refreshToken)]);
    expect(both.map(answer => answer.status).toSorted()).toEqual([200, 401]);
  });

  it('ends at once with a logout, alone', async () => {
    const user = await app.createUser();
    const other = await login(user.email, user.password);
    expect((await user.client.post('/auth/logout')).status).toBe(204);
    expectProblem(await user.client.get('/auth/me'), 401, 'invalid_token');
    expectProblem(await refresh(user.refreshToken), 401, 'invalid_refresh_token');
    expect((await app.anonymous.withToken(other.body.access_token).get('/auth/me')).status).toBe(200);
  });

  it.each(['', 'x', 'a.b', `${'0'.repeat(8)}-0000-7000-8000-000000000000.secret`, 'é'.repeat(200)])(
    'is not opened by the refresh token %j',
    async token => {
      const answer = await refresh(token);
      expectProblem(
        answer,
        token === '' ? 422 : 401,
        token === '' ? 'validation_failed' : 'invalid_refresh_token',
      );
    },
  );
});

describe('an access token', () => {
  let client: Client;
  let claims: Record<string, unknown>;
  const asBearer = (token: string) => app.anonymous.withToken(token).get('/auth/me');
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

  beforeAll(async () => {
    ({ client } = await app.createUser());
    claims = claimsOf(client.token as string);
  });

  it('is needed', async () => {
    expectProblem(await app.anonymous.get('/auth/me'), 401, 'unauthorized');
    expectProblem(
      await app.anonymous.withHeaders({ authorization: `Basic ${client.token}` }).get('/auth/me'),
      401,
      'invalid_token',
    );
    expectProblem(await app.anonymous.get(`/auth/me?access_token=${client.token}`), 401, 'unauthorized');
  });

  it('says who and which session, and nothing of a person', () => {
    expect(Object.keys(claims).toSorted()).toEqual(['exp', 'iat', 'iss', 'sid', 'sub']);
    expect(Number(claims['exp']) - Number(claims['iat'])).toBe(900);
  });

  it('is refused unsigned, signed by others, altered or expired', async () => {
    const [header, payload, signature] = (client.token as string).split('.') as [string, string, string];
    const admin = claimsOf(app.admin.token as string);
    const { sub, sid } = claims as { sub: string; sid: string };
    const jwt = new JwtService();
    const sign = (secret: string, options: object) =>
      jwt.sign({ sub, sid }, { secret, issuer: 'enclave', expiresIn: 60, ...options });
    // Made like those below, a good one is accepted: what follows fails for its own reason.
    expect((await asBearer(sign(TEST_SECRET, {}))).status).toBe(200);
    const forged = {
      unsigned: `${part({ alg: 'none', typ: 'JWT' })}.${payload}.`,
      'unsigned, with a signature': `${part({ alg: 'none', typ: 'JWT' })}.${payload}.${signature}`,
      'of another algorithm': sign(TEST_SECRET, { algorithm: 'HS512' }),
      'of another key': sign('another secret of more than thirty-two characters', {}),
      'of another issuer': sign(TEST_SECRET, { issuer: 'somebody' }),
      'with other claims': `${header}.${part({ ...claims, sub: admin['sub'] })}.${signature}`,
      'without its signature': `${header}.${payload}`,
      expired: sign(TEST_SECRET, { expiresIn: -1 }),
      'of a session of somebody else': jwt.sign(
        { sub, sid: admin['sid'] },
        { secret: TEST_SECRET, issuer: 'enclave', expiresIn: 60 },
      ),
      'of no session': jwt.sign({ sub }, { secret: TEST_SECRET, issuer: 'enclave', expiresIn: 60 }),
      'of a session that is no id': jwt.sign(
        { sub, sid: 'x' },
        { secret: TEST_SECRET, issuer: 'enclave', expiresIn: 60 },
      ),
      'of nothing': 'x.y.z',
    };
    for (const [what, token] of Object.entries(forged)) {
      const answer = await asBearer(token);
      expect({ what, status: answer.status, code: answer.body.code }).toEqual({
        what,
        status: 401,
        code: 'invalid_token',
      });
    }
  });

  it('carries the tenant that was switched to', async () => {
    await app.createTenant('north');
    await app.createTenant('south');
    await app.createTenant('foreign');
    const user = await app.createMember('north', 'editor');
    await expectStatus(201, app.admin.post('/tenants/south/members', { user_id: user.id, role: 'viewer' }));
    expectProblem(await user.client.post('/auth/switch-tenant', { tenant: 'foreign' }), 404, 'not_found');
    expectProblem(await user.client.post('/auth/switch-tenant', { tenant: 'absent' }), 404, 'not_found');

    const { body } = await expectStatus(200, user.client.post('/auth/switch-tenant', { tenant: 'north' }));
    const inNorth = user.client.withToken(body.access_token);
    const me = (await inNorth.get('/auth/me')).body;
    expect(me.active_tenant_id).toBe(
      me.tenants.find((tenant: { name: string }) => tenant.name === 'north').id,
    );
    expect(me.tenants).toMatchObject([
      { name: 'north', roles: ['editor'] },
      { name: 'south', roles: ['viewer'] },
    ]);
    expect((await inNorth.get('/permissions')).body.granted).toContain('document:create');
    expect((await inNorth.get('/tenants/north')).body.name).toBe('north');
    expectProblem(await inNorth.get('/tenants/south'), 400, 'tenant_mismatch');
    expectProblem(await inNorth.get('/tenants/foreign'), 404, 'not_found');
    // The token from before belongs to no tenant and still goes wherever its user may.
    expect((await user.client.get('/tenants/south')).body.name).toBe('south');
  });

  it('keeps its tenant over a refresh, until membership ends', async () => {
    const member = await app.createUser();
    await expectStatus(201, app.admin.post('/tenants/north/members', { user_id: member.id, role: 'viewer' }));
    const signedIn = await expectStatus(200, login(member.email, member.password, { tenant: 'north' }));
    const { body } = await expectStatus(200, refresh(signedIn.body.refresh_token));
    const inNorth = app.anonymous.withToken(body.access_token);
    expect((await inNorth.get('/auth/me')).body.active_tenant_id).toBe(claimsOf(body.access_token)['tid']);
    expect((await inNorth.get('/permissions')).body.granted).toContain('query:run');
    await expectStatus(204, app.admin.delete(`/tenants/north/members/${member.id}`));
    expectProblem(await inNorth.get('/tenants/north'), 404, 'not_found');
    expectProblem(await login(member.email, member.password, { tenant: 'north' }), 404, 'not_found');
    expect((await inNorth.get('/auth/me')).status).toBe(200);
  });
});

describe('with short lives and a low limit', () => {
  it('tokens expire by their clock, and an address gets 429 with the time to wait', async () => {
    const limited = await startTestApplication({
      AUTH_RATE_LIMIT_PER_MINUTE: '4',
      ACCESS_TOKEN_TTL_SECONDS: '30',
    });
    try {
      // Starting signed the admin in once.
      const { body } = await expectStatus(200, limited.anonymous.post('/auth/login', ADMIN));
      expect(body.expires_in).toBe(30);
      const { exp, iat } = claimsOf(body.access_token);
      expect(Number(exp) - Number(iat)).toBe(30);
      const answers = [];
      for (let i = 0; i < 4; i++)
        answers.push(await limited.anonymous.post('/auth/login', { ...ADMIN, password: 'wrong' }));
      expect(answers.map(answer => answer.status)).toEqual([401, 401, 429, 429]);
      const refused = answers[3]!;
      expectProblem(refused, 429, 'rate_limited');
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(60);
      expectProblem(
        await limited.anonymous.post('/auth/refresh', { refresh_token: body.refresh_token }),
        429,
        'rate_limited',
      );
      // Whoever is signed in works on.
      expect((await limited.admin.get('/auth/me')).status).toBe(200);
    } finally {
      await limited.close();
    }
  });

  it('tells apart the users of requests that come at the same moment', async () => {
    const users = await Promise.all([app.createUser(), app.createUser()]);
    const answers = await Promise.all(
      Array.from({ length: 32 }, async (_, i) => {
        const user = users[i % 2]!;
        return { expected: user.id, got: (await user.client.get('/auth/me')).body.id };
      }),
    );
    for (const { expected, got } of answers) expect(got).toBe(expected);
  });
});
