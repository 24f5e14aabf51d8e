import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { UsersService } from '../../src/features/users/users.service.js';
import { ADMIN, type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { mailFolder } from '../setup/mail-folder.js';
import type { Mailbox } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';

const HOME = '198.51.100.1';
const ELSEWHERE = '198.51.100.2';
const CHOSEN = 'a password that was chosen later';

let app: TestApplication;
let mails: Mailbox;
let attackers = 0;

beforeAll(async () => {
  app = await startTestApplication({ TRUST_PROXY: 'true' });
  mails = mailFolder(app.env.dataDir);
});
afterAll(() => app?.close());

const from = (ip: string) => app.anonymous.withHeaders({ 'x-forwarded-for': ip });
const attacker = () => `203.0.${(++attackers >> 8) + 1}.${attackers & 255}`;
const login = (ip: string, email: string, password: string) =>
  from(ip).post('/auth/login', { email, password });

/** An account that was made, and so opened, at home. */
async function accountAtHome(name: string) {
  const account = { email: `${name}@example.com`, password: `the password of ${name}` };
  const made = await expectStatus(201, from(HOME).post('/auth/register', account));
  return {
    ...account,
    refreshToken: made.body.refresh_token as string,
    token: made.body.access_token as string,
  };
}

/** Wrong passwords, each from an address of its own. */
const guesses = (email: string, count: number): Promise<Answer[]> =>
  Promise.all(Array.from({ length: count }, (_, i) => login(attacker(), email, `guess ${i}`)));

const statuses = (answers: Answer[]) => answers.map(answer => answer.status).toSorted();

describe('an account that is guessed at from many addresses', () => {
  it('is closed to strangers, and stays open where it was opened before', async () => {
    const owner = await accountAtHome('ada');
    expect(statuses(await guesses(owner.email, 10))).toEqual(Array(10).fill(401));
    const right = await login(attacker(), owner.email, owner.password);
    expectProblem(right, 429, 'rate_limited');
    expect(Number(right.headers.get('retry-after'))).toBeGreaterThan(60);
    const wrong = await login(attacker(), owner.email, 'another guess');
    const told = ({ body: { code, detail, title } }: Answer) => ({
      code,
      detail: detail.replace(/\d+/, 'n'),
      title,
    });
    expect(told(wrong)).toEqual(told(right));

    // However long it goes on.
    await guesses(owner.email, 10);
    expect((await login(HOME, owner.email, owner.password)).status).toBe(200);
    expect((await from(HOME).post('/auth/refresh', { refresh_token: owner.refreshToken })).status).toBe(200);
    // Whoever is signed in may change the password, too.
    const change = from(attacker())
      .withToken(owner.token)
      .post('/auth/change-password', { current_password: owner.password, new_password: CHOSEN });
    expect((await change).status).toBe(204);
    // One success of its owner gives strangers no further guess.
    expectProblem(await login(attacker(), owner.email, CHOSEN), 429, 'rate_limited');
  });

  it('is opened from anywhere with a token from an e-mail', async () => {
    const owner = await accountAtHome('grace');
    await guesses(owner.email, 11);
    expectProblem(await login(ELSEWHERE, owner.email, owner.password), 429, 'rate_limited');
    await expectStatus(202, from(ELSEWHERE).post('/auth/forgot-password', { email: owner.email }));
    const token = /[\w-]{43}/.exec((await mails.waitFor(owner.email)).text ?? '')?.[0];
    const reset = { token, new_password: CHOSEN };
    await expectStatus(204, from(ELSEWHERE).post('/auth/reset-password', reset));
    await guesses(owner.email, 5);
    expect((await login(ELSEWHERE, owner.email, CHOSEN)).status).toBe(200);
    expectProblem(await login(attacker(), owner.email, CHOSEN), 429, 'rate_limited');
  });

  it('cannot be told from one that does not exist', async () => {
    const owner = await accountAtHome('real');
    const known = [...(await guesses(owner.email, 10)), await login(attacker(), owner.email, 'x')];
    const unknown = [
      ...(await guesses('nobody@example.com', 10)),
      await login(attacker(), 'nobody@example.com', 'x'),
    ];
    const told = (answers: Answer[]) =>
      answers.map(({ status, body }) => ({
        status,
        code: body.code,
        detail: body.detail.replace(/\d+/, 'n'),
      }));
    expect(told(unknown)).toEqual(told(known));
  });

  it('gives away no more than so many answers, however many ask at once', async () => {
    const owner = await accountAtHome('burst');
    const users = app.application.nest.get(UsersService, { strict: false });
    const authenticate = users.authenticate.bind(users);
    let verified = () => {};
    const othersVerified = new Promise<void>(resolve => {
      verified = resolve;
    });
    const spy = vi.spyOn(users, 'authenticate').mockImplementation(async (email, password) => {
      const user = await authenticate(email, password);
      // The right one was let in with the others, and is verified last.
      if (user) await othersVerified;
      return user;
    });
    const right = login(attacker(), owner.email, owner.password);
    await expect.poll(() => spy.mock.calls.length).toBe(1);
    const answers = await guesses(owner.email, 39);
    verified();
    expect(answers.filter(({ status }) => status === 401).length).toBeLessThanOrEqual(10);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401, 429]));
    expectProblem(await right, 429, 'rate_limited');
    spy.mockRestore();
  });
});

describe('an address', () => {
  it('that fails too often with an account locks out itself alone', async () => {
    const owner = await accountAtHome('home');
    await expectStatus(200, login(ELSEWHERE, owner.email, owner.password));
    for (let i = 0; i < 10; i++) await expectStatus(401, login(ELSEWHERE, owner.email, 'mistyped'));
    expectProblem(await login(ELSEWHERE, owner.email, owner.password), 429, 'rate_limited');
    expect((await login(HOME, owner.email, owner.password)).status).toBe(200);
    // Its own failures are no stranger's.
    expect((await login(attacker(), owner.email, owner.password)).status).toBe(200);
  });

  it('is the one that the proxy has written, whatever its client writes before', async () => {
    const owner = await accountAtHome('proxied');
    for (let i = 0; i < 10; i++) {
      await expectStatus(401, login(`${HOME}, 192.0.2.${i}, 203.0.113.99`, owner.email, 'guess'));
    }
    expectProblem(await login('203.0.113.99', owner.email, owner.password), 429, 'rate_limited');
    expectProblem(await login(`${HOME}, 203.0.113.98`, owner.email, owner.password), 429, 'rate_limited');
    expect((await login(HOME, owner.email, owner.password)).status).toBe(200);
  });

  it('of IPv6 is its whole network', async () => {
    const owner = await accountAtHome('six');
    await expectStatus(200, login('2001:db8:7:7::1', owner.email, owner.password));
    await guesses(owner.email, 10);
    expect((await login('2001:db8:7:7::ffff', owner.email, owner.password)).status).toBe(200);
    expectProblem(await login('2001:db8:7:8::1', owner.email, owner.password), 429, 'rate_limited');
  });

  it('that finds many accounts to exist finds no more', async () => {
    const ip = attacker();
    const taken = { email: ADMIN.email, password: 'long enough for everybody' };
    for (let i = 0; i < 20; i++) {
      expectProblem(await from(ip).post('/auth/register', taken), 409, 'email_taken');
    }
    expectProblem(await from(ip).post('/auth/register', taken), 429, 'rate_limited');
    expectProblem(
      await from(ip).post('/auth/register', { ...taken, email: 'free@example.com' }),
      429,
      'rate_limited',
    );
    expect(
      (await from(attacker()).post('/auth/register', { ...taken, email: 'free@example.com' })).status,
    ).toBe(201);
  });
});

it('e-mails with tokens are sent so many times, and nobody can use them up for somebody else', async () => {
  const owner = await accountAtHome('flooded');
  const forgot = (ip: string) => from(ip).post('/auth/forgot-password', { email: owner.email });
  for (let i = 0; i < 8; i++) await expectStatus(202, forgot(attacker()));
  // Its owner is told the same as always, and has five e-mails by then of which each will do.
  const answer = await expectStatus(202, forgot(HOME));
  expect(answer.body.message).toContain('on its way');
  await mails.waitFor(owner.email, 5);
  const all = (await mails.messages()).filter(({ recipients }) => recipients.includes(owner.email));
  expect(all).toHaveLength(5);
  const ip = attacker();
  for (let i = 0; i < 5; i++) await expectStatus(202, forgot(ip));
  expectProblem(await forgot(ip), 429, 'rate_limited');
  expect((await forgot(HOME)).status).toBe(202);
});
