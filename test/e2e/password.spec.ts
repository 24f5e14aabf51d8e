import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { SessionsService } from '../../src/entry/authentication/sessions.service.js';
import { PasswordsService } from '../../src/features/users/passwords.service.js';
import { UsersService } from '../../src/features/users/users.service.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { platformAudit } from '../setup/platform-audit.js';
import { mailFolder } from '../setup/mail-folder.js';
import { type Mailbox, tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';

const CHOSEN = 'another password, chosen just now';

let app: TestApplication;
let mails: Mailbox;

beforeAll(async () => {
  app = await startTestApplication();
  mails = mailFolder(app.env.dataDir);
});
afterAll(() => app?.close());

const login = (email: string, password: string) => app.anonymous.post('/auth/login', { email, password });
const refresh = (token: string) => app.anonymous.post('/auth/refresh', { refresh_token: token });
const forgot = (email: string) => app.anonymous.post('/auth/forgot-password', { email });
const reset = (token: string, password = CHOSEN) =>
  app.anonymous.post('/auth/reset-password', { token, new_password: password });
const tokenFor = async (email: string, count = 1) => {
  await expectStatus(202, forgot(email));
  return tokenIn(await mails.waitFor(email, count));
};
const inDatabase = <T>(statement: string, parameters: unknown[]) =>
  app.application.nest.get(PlatformDatabase, { strict: false }).run<T>(tx => tx.query(statement, parameters));

describe('a password', () => {
  it('is changed with the one before; other sessions end, and an e-mail tells of it', async () => {
    const user = await app.createUser();
    const other = (await expectStatus(200, login(user.email, user.password))).body;
    const changed = await user.client.post('/auth/change-password', {
      current_password: user.password,
      new_password: CHOSEN,
    });
    expect(changed.status).toBe(204);
    expect((await user.client.get('/auth/me')).status).toBe(200);
    expect((await refresh(user.refreshToken)).status).toBe(200);
    expectProblem(await app.anonymous.withToken(other.access_token).get('/auth/me'), 401, 'invalid_token');
    expectProblem(await refresh(other.refresh_token), 401, 'invalid_refresh_token');
    expectProblem(await login(user.email, user.password), 401, 'invalid_credentials');
    expect((await login(user.email, CHOSEN)).status).toBe(200);
    const mail = await mails.waitFor(user.email);
    expect(mail.subject).toBe('Your password was changed');
    expect(mail.raw).not.toContain(CHOSEN);
    const entries = await platformAudit(app, 'password.changed');
    expect(entries.at(-1)).toMatchObject({
      actor_id: user.id,
      resource_id: user.id,
      outcome: 'allowed',
      details: { sessions_ended: 1 },
    });
  });

  it('is not changed by whoever has only the session, and cannot be guessed with it', async () => {
    const user = await app.createUser();
    const attempt = (current: string) =>
      user.client.post('/auth/change-password', { current_password: current, new_password: CHOSEN });
    for (let i = 0; i < 10; i++) expectProblem(await attempt(`guess ${i}`), 403, 'wrong_password');
    expectProblem(await attempt(user.password), 429, 'rate_limited');
    expectProblem(await login(user.email, user.password), 429, 'rate_limited');
    const denied = (await platformAudit(app, 'password.changed')).filter(entry => entry.actor_id === user.id);
    expect(denied.map(entry => entry.outcome)).toEqual(Array(10).fill('denied'));
    expect(JSON.stringify(denied)).not.toContain('guess');
  });

  it.each([
    ['too short', 'short'],
    ['too long', 'x'.repeat(257)],
    ['no text', 12_345_678_901],
  ])('is not one that is %s', async (_, password) => {
    const user = await app.createUser();
    const answer = await user.client.post('/auth/change-password', {
      current_password: user.password,
      new_password: password,
    });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toMatchObject([{ path: 'new_password' }]);
  });

  it('is one of two that are chosen at once', async () => {
    const user = await app.createUser();
    const answers = await Promise.all(
      ['the first of the two', 'the second of the two'].map(password =>
        user.client.post('/auth/change-password', {
          current_password: user.password,
          new_password: password,
        }),
      ),
    );
    expect(answers.filter(answer => answer.status === 204)).toHaveLength(1);
    const signedIn = await Promise.all(
      ['the first of the two', 'the second of the two'].map(password => login(user.email, password)),
    );
    expect(signedIn.map(answer => answer.status).toSorted()).toEqual([200, 401]);
  });
});

describe('a sign-in whose password is changed just then', () => {
  it('is refused: what it was verified against is no longer so', async () => {
    const user = await app.createUser();
    const users = app.application.nest.get(UsersService, { strict: false });
    const sessions = app.application.nest.get(SessionsService, { strict: false });
    const context = app.application.nest.get(TenantContext, { strict: false });
    const verified = (await users.authenticate(user.email, user.password))!;
    await expectStatus(
      204,
      user.client.post('/auth/change-password', { current_password: user.password, new_password: CHOSEN }),
    );
    const client = { ip: '127.0.0.1', userAgent: null };
    const opened = await context.runAsSystem(null, () =>
      sessions.open(verified, verified.passwordHash, client, null),
    );
    expect(opened).toBeNull();
    expect((await user.client.get('/auth/sessions')).body.total).toBe(1);
  });
});

describe('a forgotten password', () => {
  it('is replaced with a token from an e-mail; every session ends', async () => {
    const user = await app.createUser();
    expect((await user.client.get('/auth/me')).body.email_verified).toBe(false);
    await expectStatus(202, forgot(user.email.toUpperCase()));
    const token = tokenIn(await mails.waitFor(user.email));
    expect((await reset(token)).status).toBe(204);
    expectProblem(await user.client.get('/auth/me'), 401, 'invalid_token');
    expectProblem(await refresh(user.refreshToken), 401, 'invalid_refresh_token');
    expectProblem(await login(user.email, user.password), 401, 'invalid_credentials');
    const signedIn = await expectStatus(200, login(user.email, CHOSEN));
    expect(signedIn.body.user.email_verified).toBe(true);
    expect((await mails.waitFor(user.email, 2)).subject).toBe('Your password was changed');
    expect((await platformAudit(app, 'password.reset')).at(-1)).toMatchObject({ resource_id: user.id });
    const audit = await platformAudit(app, 'password.reset_requested');
    expect(audit.at(-1)).toMatchObject({ actor_type: 'anonymous', resource_id: user.id });
    expect(JSON.stringify(audit)).not.toContain(token);
  });

  it('asks the same of everybody, and answers everybody alike', async () => {
    const user = await app.createUser();
    const inactive = await app.createUser();
    await expectStatus(200, app.admin.patch(`/users/${inactive.id}`, { is_active: false }));
    const answers = await Promise.all([user.email, inactive.email, 'nobody-at-all@example.com'].map(forgot));
    expect(answers.map(answer => answer.status)).toEqual([202, 202, 202]);
    expect(answers[1]!.body).toEqual(answers[0]!.body);
    expect(answers[2]!.body).toEqual(answers[0]!.body);
    await mails.waitFor(user.email);
    await expect
      .poll(async () =>
        (await platformAudit(app, 'password.reset_requested')).map(({ details }) => details['email']),
      )
      .toEqual(expect.arrayContaining([user.email, inactive.email, 'nobody-at-all@example.com']));
    const recipients = (await mails.messages()).flatMap(mail => mail.recipients);
    expect(recipients).not.toContain(inactive.email);
    expect(recipients).not.toContain('nobody-at-all@example.com');
  });

  it('has tokens that are good once, also when two use one at once', async () => {
    const user = await app.createUser();
    const token = await tokenFor(user.email);
    const both = await Promise.all([reset(token, `${CHOSEN} 1`), reset(token, `${CHOSEN} 2`)]);
    expect(both.map(answer => answer.status).toSorted()).toEqual([204, 401]);
    expectProblem(await reset(token), 401, 'invalid_reset_token');
    const chosen = both[0]!.status === 204 ? 1 : 2;
    expect((await login(user.email, `${CHOSEN} ${chosen}`)).status).toBe(200);
  });

  it('has tokens that a password chosen otherwise, or another of them, makes void', async () => {
    const user = await app.createUser();
    const first = await tokenFor(user.email);
    await expectStatus(202, forgot(user.email));
    const second = tokenIn(await mails.waitFor(user.email, 2));
    expect(second).not.toBe(first);
    expect((await reset(first)).status).toBe(204);
    expectProblem(await reset(second), 401, 'invalid_reset_token');

    const another = await app.createUser();
    const token = await tokenFor(another.email);
    await expectStatus(
      204,
      another.client.post('/auth/change-password', {
        current_password: another.password,
        new_password: CHOSEN,
      }),
    );
    expectProblem(await reset(token), 401, 'invalid_reset_token');
  });

  it('has tokens that end by the clock, and open no account that was closed', async () => {
    const user = await app.createUser();
    const token = await tokenFor(user.email);
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { is_active: false }));
    expectProblem(await reset(token), 401, 'invalid_reset_token');
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { is_active: true }));
    await inDatabase('UPDATE password_tokens SET expires_at = now() WHERE user_id = $1', [user.id]);
    expectProblem(await reset(token), 401, 'invalid_reset_token');
    expect((await login(user.email, user.password)).status).toBe(200);
  });

  it.each(['x', 'a.b.c', '0'.repeat(43), "' OR true --", 'é'.repeat(100)])(
    'is not replaced with the token %j',
    async token => expectProblem(await reset(token), 401, 'invalid_reset_token'),
  );

  it('wants a token and a password, and nothing else', async () => {
    for (const body of [
      {},
      { token: '', new_password: CHOSEN },
      { token: 'x'.repeat(201), new_password: CHOSEN },
      { token: 'x', new_password: 'short' },
      { token: 'x', new_password: CHOSEN, user_id: crypto.randomUUID() },
    ]) {
      expectProblem(await app.anonymous.post('/auth/reset-password', body), 422, 'validation_failed');
    }
    for (const email of ['', 'x', '\u0430@example.com', `${'x'.repeat(250)}@example.com`, null]) {
      expectProblem(await app.anonymous.post('/auth/forgot-password', { email }), 422, 'validation_failed');
    }
  });

  it('is not asked for without end, for one address, whether or not it has an account', async () => {
    const user = await app.createUser();
    for (const email of [user.email, 'nobody-ever@example.com']) {
      for (let i = 0; i < 5; i++) expect((await forgot(email)).status).toBe(202);
      expectProblem(await forgot(email.toUpperCase()), 429, 'rate_limited');
    }
  });
});

describe('an account without a password', () => {
  it('cannot be signed in to until one is chosen with a token, which may take days', async () => {
    const { body } = await expectStatus(
      201,
      app.admin.post('/users', { email: 'imported@example.com', display_name: 'Imported' }),
    );
    for (const password of ['', ' ', 'null', 'no account has this password']) {
      expect((await login('imported@example.com', password)).status).toBe(password === '' ? 422 : 401);
    }
    const database = app.application.nest.get(PlatformDatabase, { strict: false });
    const passwords = app.application.nest.get(PasswordsService, { strict: false });
    const issued = await database.run(tx => passwords.issueToken(tx, body.id, 7 * 24 * 3600));
    expect(issued.expiresAt.getTime() - Date.now()).toBeGreaterThan(6.9 * 24 * 3600 * 1000);
    expect((await reset(issued.token)).status).toBe(204);
    expect((await login('imported@example.com', CHOSEN)).status).toBe(200);
  });

  it('gets one by having forgotten it', async () => {
    await expectStatus(201, app.admin.post('/users', { email: 'never@example.com', display_name: 'Never' }));
    expect((await reset(await tokenFor('never@example.com'))).status).toBe(204);
    expect((await login('never@example.com', CHOSEN)).status).toBe(200);
  });
});
