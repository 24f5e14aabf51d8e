import { createHmac, createSign, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { ADMIN, type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { issueToken } from '../setup/api-tokens.js';
import type { Answer } from '../setup/client.js';
import { TEST_SECRET } from '../setup/database.js';
import { tried } from '../setup/isolation-cases.js';
import { mailFolder } from '../setup/mail-folder.js';
import { type Mailbox, tokenIn } from '../setup/mail-server.js';
import { asSuperuser } from '../setup/superuser.js';
import { moreOftenSlower } from './more-often-slower.js';
import { told } from './two-tenants.js';

let app: TestApplication;
let mails: Mailbox;
let user: Awaited<ReturnType<TestApplication['createUser']>>;

beforeAll(async () => {
  app = await startTestApplication();
  mails = mailFolder(app.env.dataDir);
  await app.createTenant('acme');
  user = await app.createUser('somebody');
  await expectStatus(201, app.admin.post('/tenants/acme/members', { user_id: user.id, role: 'owner' }));
});
afterAll(() => app?.close());

const NOW = () => Math.floor(Date.now() / 1000);
const part = (value: unknown) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const claimsOf = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString()) as Record<string, any>;
const asBearer = (token: string) => app.anonymous.withToken(token).get('/auth/me');

describe('a JWT', () => {
  const HS256 = { alg: 'HS256', typ: 'JWT' };
  const sign = (header: object, claims: object, key: string | Buffer, hash = 'sha256') => {
    const content = `${part(header)}.${part(claims)}`;
    return `${content}.${createHmac(hash, key).update(content).digest('base64url')}`;
  };

  it('that we signed ourselves is what the others are compared with', async () => {
    const claims = claimsOf(user.client.token as string);
    expect((await asBearer(sign(HS256, claims, TEST_SECRET))).status).toBe(200);
    tried();
  });

  it('does not choose how it is checked', async () => {
    const claims = claimsOf(user.client.token as string);
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwk = publicKey.export({ format: 'jwk' });
    const rs256 = (header: object) => {
      const content = `${part(header)}.${part(claims)}`;
      return `${content}.${createSign('sha256').update(content).sign(privateKey, 'base64url')}`;
    };
    const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;
    const forged: Record<string, string> = {
      'RS256 with a key of its own': rs256({ alg: 'RS256', typ: 'JWT' }),
      'RS256 with its key in the header': rs256({ alg: 'RS256', typ: 'JWT', jwk }),
      'RS256, signed with our secret as if it were HMAC': sign(
        { alg: 'RS256', typ: 'JWT' },
        claims,
        TEST_SECRET,
      ),
      'HS256 with a public key as secret': sign(HS256, claims, pem),
      'HS256 with no secret': sign(HS256, claims, ''),
      'HS256 with the secret in Base64': sign(HS256, claims, Buffer.from(TEST_SECRET).toString('base64')),
      HS384: sign({ alg: 'HS384', typ: 'JWT' }, claims, TEST_SECRET, 'sha384'),
      HS512: sign({ alg: 'HS512', typ: 'JWT' }, claims, TEST_SECRET, 'sha512'),
      'HS256, said to be HS512': sign({ alg: 'HS512', typ: 'JWT' }, claims, TEST_SECRET),
      'its key in the header': sign({ ...HS256, jwk: { kty: 'oct', k: part('x') } }, claims, 'x'),
      'encrypted to nobody': `${part({ alg: 'dir', enc: 'A128GCM' })}..${part('x')}.${part(claims)}.${part('x')}`,
      'without parts': part(claims),
      'in JSON': JSON.stringify({ payload: part(claims), signature: '' }),
      'two signatures': `${user.client.token}.${(user.client.token as string).split('.')[2]}`,
      'a signature that is padded': `${user.client.token}==`,
      'a signature cut short': (user.client.token as string).slice(0, -4),
    };
    for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null, 0, ['HS256'], { HS256: true }, 'HS256 ']) {
      forged[`alg ${JSON.stringify(alg)}, unsigned`] = `${part({ alg, typ: 'JWT' })}.${part(claims)}.`;
      forged[`alg ${JSON.stringify(alg)}, signed`] = sign({ alg, typ: 'JWT' }, claims, TEST_SECRET);
    }
    for (const [what, token] of Object.entries(forged)) {
      const { status, body } = await asBearer(token);
      tried();
      expect({ what, status, code: body.code }).toEqual({ what, status: 401, code: 'invalid_token' });
    }
  });

  it('names no key and no place where one would be', async () => {
    const claims = claimsOf(user.client.token as string);
    const extras: Array<Record<string, unknown>> = [
      { kid: '../../../../dev/null' },
      { kid: `x' UNION SELECT '' --` },
      { kid: '/proc/self/environ' },
      { jku: 'http://127.0.0.1:1/keys' },
      { x5u: 'http://127.0.0.1:1/certificate' },
      { x5c: ['MIIB'] },
      { crit: ['exp'], exp: 1 },
      { crit: ['b64'], b64: false },
      { cty: 'JWT' },
      { zip: 'DEF' },
    ];
    for (const extra of extras) {
      // Also with our own secret: what we sign says none of this.
      for (const key of [TEST_SECRET, '', 'x']) {
        const { status } = await asBearer(sign({ ...HS256, ...extra }, claims, key));
        tried();
        expect([extra, status]).toEqual([extra, 401]);
      }
    }
  });

  it('says what it must, and nothing that is not so', async () => {
    const claims = claimsOf(user.client.token as string);
    const admin = claimsOf(app.admin.token as string);
    const without = (name: string) =>
      Object.fromEntries(Object.entries(claims).filter(([key]) => key !== name));
    const forged: Record<string, string> = {
      expired: sign(HS256, { ...claims, exp: NOW() - 1 }, TEST_SECRET),
      'not valid yet': sign(HS256, { ...claims, nbf: NOW() + 600 }, TEST_SECRET),
      'without an end': sign(HS256, without('exp'), TEST_SECRET),
      'an end that is a word': sign(HS256, { ...claims, exp: 'never' }, TEST_SECRET),
      'of another issuer': sign(HS256, { ...claims, iss: 'somebody' }, TEST_SECRET),
      'of no issuer': sign(HS256, without('iss'), TEST_SECRET),
      'for another audience': sign(HS256, { ...claims, aud: 'another service' }, TEST_SECRET),
      'for several audiences': sign(HS256, { ...claims, aud: ['enclave', 'another'] }, TEST_SECRET),
      'without a subject': sign(HS256, without('sub'), TEST_SECRET),
      'without a session': sign(HS256, without('sid'), TEST_SECRET),
      'of somebody else’s session': sign(HS256, { ...claims, sid: admin['sid'] }, TEST_SECRET),
      'for somebody else': sign(HS256, { ...claims, sub: admin['sub'] }, TEST_SECRET),
      'a session that is SQL': sign(HS256, { ...claims, sid: `' OR true --` }, TEST_SECRET),
      'a session that is a list': sign(HS256, { ...claims, sid: [claims['sid']] }, TEST_SECRET),
      'a subject that is a list': sign(HS256, { ...claims, sub: [claims['sub']] }, TEST_SECRET),
      'a tenant that is a list': sign(HS256, { ...claims, tid: ['acme'] }, TEST_SECRET),
      'of another installation': sign(HS256, claims, randomBytes(32).toString('hex')),
      'a refresh token': user.refreshToken,
      'a list': `${part(HS256)}.${part([1])}.${createHmac('sha256', TEST_SECRET)
        .update(`${part(HS256)}.${part([1])}`)
        .digest('base64url')}`,
    };
    for (const [what, token] of Object.entries(forged)) {
      const answer = await asBearer(token);
      tried();
      expect({ what, status: answer.status, code: answer.body.code }).toEqual({
        what,
        status: 401,
        code: 'invalid_token',
      });
    }
    // A wrong secret of a session that stands ends it: of somebody whom no other test needs.
    const other = await app.createUser();
    const { sid } = claimsOf(other.client.token as string);
    for (const refreshToken of [other.client.token, `${sid}.`, `${sid}.${part('x')}`]) {
      const answer = await app.anonymous.post('/auth/refresh', { refresh_token: refreshToken });
      tried();
      // One that is too long for any is no valid field.
      expect([401, 422]).toContain(answer.status);
    }
  });

  it('that was switched to a tenant opens it no longer than its user is a member', async () => {
    const guest = await app.createMember('acme', 'viewer');
    const { body } = await expectStatus(200, guest.client.post('/auth/switch-tenant', { tenant: 'acme' }));
    const switched = app.anonymous.withToken(body.access_token);
    expect((await switched.get('/tenants/acme')).status).toBe(200);
    await expectStatus(204, app.admin.delete(`/tenants/acme/members/${guest.id}`));
    for (const path of ['/tenants/acme', '/tenants/acme/kbs', '/tenants/acme/kbs/docs/documents']) {
      expect([path, (await switched.get(path)).status]).toEqual([path, 404]);
      tried();
    }
  });
});

describe('a token from an e-mail', () => {
  const reset = (token: string) =>
    app.anonymous.post('/auth/reset-password', { token, new_password: 'another password of some length' });

  it('that is guessed, used, replaced or somebody else’s is answered like any other word', async () => {
    const person = await app.createUser();
    await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: person.email }));
    const token = tokenIn(await mails.waitFor(person.email, 1));
    // 256 random bits: of 10^9 guesses a second, for as long as the universe is old, none would be right.
    expect(Buffer.from(token, 'base64url').length).toBeGreaterThanOrEqual(32);
    const guesses = [
      token.slice(0, -1),
      `${token}x`,
      token.toUpperCase(),
      token.split('').toReversed().join(''),
      `${token.slice(0, -4)}AAAA`,
      randomBytes(32).toString('base64url'),
      'x',
      `' OR token_hash IS NOT NULL --`,
      '%',
      person.refreshToken,
      person.client.token as string,
    ].map(guess => guess.slice(0, 200));
    const first = told(await reset(guesses[0] as string));
    expect(first).toMatchObject({ status: 401, body: { code: 'invalid_reset_token' } });
    for (const guess of guesses) {
      expect(told(await reset(guess))).toEqual(first);
      tried();
    }
    await expectStatus(204, reset(token));
    expect(told(await reset(token))).toEqual(first);
    tried(2);
  });

  it('of an invitation opens nothing else, and no other token opens an invitation', async () => {
    const invite = async (email: string) => {
      await expectStatus(201, app.admin.post('/tenants/acme/invitations', { email, role: 'viewer' }));
      return tokenIn(await mails.waitFor(email, 1));
    };
    const token = await invite('guest@example.com');
    expect(Buffer.from(token, 'base64url').length).toBeGreaterThanOrEqual(32);
    expect((await reset(token)).status).toBe(401);
    for (const path of ['/auth/me', '/tenants/acme']) {
      expect((await app.anonymous.withToken(token).get(path)).status).toBe(401);
      expect((await app.anonymous.withHeaders({ 'x-api-key': token }).get(path)).status).toBe(401);
      tried(2);
    }
    const person = await app.createUser();
    await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: person.email }));
    const others = [
      tokenIn(await mails.waitFor(person.email, 1)),
      person.refreshToken,
      randomBytes(32).toString('base64url'),
      `${token.slice(0, -4)}AAAA`,
      token.toLowerCase(),
      `' OR true --`,
      '..%2f..%2f',
    ];
    for (const [method, path, body] of [
      ['GET', '', undefined],
      ['POST', '/accept', { password: 'a password of some length' }],
      ['POST', '/decline', undefined],
    ] as const) {
      const ask = (word: string) =>
        app.anonymous.send(method, `/invitations/${encodeURIComponent(word)}${path}`, body);
      const first = told(await ask('nothing'));
      expect(first.status).toBe(404);
      for (const word of others) {
        expect([path, told(await ask(word))]).toEqual([path, first]);
        tried();
      }
    }
    await expectStatus(200, app.anonymous.get(`/invitations/${token}`));
  });

  it('names the host that this installation has, whatever the request says', async () => {
    const person = await app.createUser();
    const hostile = {
      'x-forwarded-host': 'evil.example.com',
      forwarded: 'host=evil.example.com',
      origin: 'https://evil.example.com',
    };
    await expectStatus(
      202,
      app.anonymous.withHeaders(hostile).post('/auth/forgot-password', { email: person.email }),
    );
    const mail = await mails.waitFor(person.email, 1);
    tried();
    expect(JSON.stringify(mail)).not.toContain('evil.example.com');
  });
});

describe('what is kept of secrets', () => {
  it('is nowhere the secret itself: no table holds it, in no encoding', async () => {
    const person = await app.createUser();
    const { secret } = await issueToken(app, user.client, 'acme');
    const invited = 'kept@example.com';
    await expectStatus(201, app.admin.post('/tenants/acme/invitations', { email: invited, role: 'viewer' }));
    await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: person.email }));
    await expectStatus(
      200,
      app.admin.put('/tenants/acme/variables/PAYMENT_KEY', { value: 'the value of a variable' }),
    );
    await expectStatus(
      201,
      app.admin.post('/tenants/acme/models', {
        provider: 'openai_compatible',
        model_type: 'chat',
        model_name: 'm',
        api_base: 'https://models.invalid/v1',
        api_key: 'the-key-of-a-model-provider',
      }),
    );
    const webhook = await expectStatus(
      201,
      app.admin.post('/tenants/acme/webhooks', {
        url: 'https://hooks.invalid/x',
        events: ['member.*'],
        headers: { 'X-Secret': 'the header of a webhook' },
      }),
    );
    const secrets: Record<string, string> = {
      'a password': person.password,
      'the admin’s password': ADMIN.password,
      'a refresh token': person.refreshToken.split('.')[1] as string,
      'an access token': (person.client.token as string).split('.')[2] as string,
      'an API token': secret,
      'a token for a password': tokenIn(await mails.waitFor(person.email, 1)),
      'a token of an invitation': tokenIn(await mails.waitFor(invited, 1)),
      'a variable': 'the value of a variable',
      'a key of a model': 'the-key-of-a-model-provider',
      'a secret of a webhook': webhook.body.secret,
      'a header of a webhook': 'the header of a webhook',
      'the secret of this installation': TEST_SECRET,
    };
    const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    const found = await asSuperuser(app.env, dataSource, async client => {
      const { rows: tables } = await client.query<{ name: string }>(
        `SELECT c.oid::regclass::text AS name FROM pg_class c
         WHERE c.relkind IN ('r', 'm') AND c.relnamespace = 'public'::regnamespace`,
      );
      expect(tables.length).toBeGreaterThan(40);
      const where: string[] = [];
      for (const { name } of tables) {
        const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
        const text = rows.map(({ row }) => row).join('\n');
        for (const [what, value] of Object.entries(secrets)) {
          tried();
          const forms = [
            value,
            Buffer.from(value).toString('hex'),
            Buffer.from(value).toString('base64').replace(/=+$/, ''),
          ];
          if (forms.some(form => text.includes(form))) where.push(`${name}: ${what}`);
        }
      }
      return where;
    });
    expect(found).toEqual([]);
  });
});

describe('whether there is an account', () => {
  /** Registered, never seen, closed, and made without a password. */
  let accounts: Record<'open' | 'missing' | 'closed' | 'unset', string>;

  beforeAll(async () => {
    const open = await app.createUser();
    const closed = await app.createUser();
    await expectStatus(200, app.admin.patch(`/users/${closed.id}`, { is_active: false }));
    await expectStatus(201, app.admin.post('/users', { email: 'unset@example.com', display_name: 'Unset' }));
    accounts = {
      open: open.email,
      missing: 'missing@example.com',
      closed: closed.email,
      unset: 'unset@example.com',
    };
  });

  it('is not told by a sign-in', async () => {
    const answers = await Promise.all(
      Object.values(accounts).map(email =>
        app.anonymous.post('/auth/login', { email, password: 'not the password of anybody' }),
      ),
    );
    tried(answers.length);
    const [first, ...rest] = answers.map(told);
    expect(first?.status).toBe(401);
    for (const answer of rest) expect(answer).toEqual(first);
    expect(new Set(answers.map(({ headers }) => [...headers.keys()].toSorted().join())).size).toBe(1);
  });

  it('is not told by a sign-in to a tenant', async () => {
    const answers = await Promise.all(
      Object.values(accounts).map(email =>
        app.anonymous.post('/auth/login', { email, password: 'not the password of anybody', tenant: 'acme' }),
      ),
    );
    tried(answers.length);
    expect(new Set(answers.map(answer => JSON.stringify(told(answer)))).size).toBe(1);
  });

  it('is not told by a forgotten password', async () => {
    const answers = await Promise.all(
      Object.values(accounts).map(email => app.anonymous.post('/auth/forgot-password', { email })),
    );
    tried(answers.length);
    expect(new Set(answers.map(answer => JSON.stringify(told(answer)))).size).toBe(1);
    expect(answers[0]?.status).toBe(202);
  });

  it('is not told by the time that a sign-in takes', async () => {
    let attempt = 0;
    const login = (email: (n: number) => string) => async () => {
      const { status } = await app.anonymous.post('/auth/login', {
        email: email(++attempt),
        password: 'not the password of anybody',
      });
      if (status !== 401) throw new Error(`A sign-in was answered with ${status}.`);
    };
    // An account is locked after ten: each is tried a few times.
    const people = await Promise.all([1, 2, 3, 4].map(() => app.createUser()));
    const existing = login(n => (people[n % people.length] as { email: string }).email);
    const missing = login(n => `missing${n % people.length}@example.com`);
    for (const warm of [existing, missing]) await warm();
    const shares: number[] = [];
    // A password that is not verified saves nearly all of the time: the share would be 0 or 1.
    const isApart = (share: number) => share < 0.1 || share > 0.9;
    while (shares.length < 2 && shares.every(isApart)) {
      shares.push(await moreOftenSlower(12, existing, missing));
      tried(24);
    }
    expect(shares.every(isApart), `share of slower answers: ${shares.join(', ')}`).toBe(false);
  });

  // Of 60 times each the share's standard deviation is 0.05; what makes a token and a mail at once takes it to 0.67 and more.
  it.each([
    [
      'a forgotten password',
      async () => {
        // For one address it may be asked a few times only: each is asked for once.
        const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
        await asSuperuser(app.env, dataSource, client =>
          client.query(
            `INSERT INTO users (id, email, display_name, password_hash)
             SELECT gen_random_uuid(), 'known' || n || '@example.com', 'Somebody', 'x' FROM generate_series(1, 500) n`,
          ),
        );
        let asked = 0;
        const forgotten = (name: string) => async () =>
          (await app.anonymous.post('/auth/forgot-password', { email: `${name}${++asked}@example.com` }))
            .status;
        return { status: 202, existing: forgotten('known'), missing: forgotten('unknown') };
      },
    ],
    [
      'a token for one',
      async () => {
        const person = await app.createUser();
        await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: person.email }));
        const used = tokenIn(await mails.waitFor(person.email, 1));
        const reset = (token: () => string) => async () =>
          (
            await app.anonymous.post('/auth/reset-password', {
              token: token(),
              new_password: 'a password of some length',
            })
          ).status;
        await expectStatus(
          204,
          app.anonymous.post('/auth/reset-password', {
            token: used,
            new_password: 'a password of some length',
          }),
        );
        return {
          status: 401,
          existing: reset(() => used),
          missing: reset(() => randomBytes(32).toString('base64url')),
        };
      },
    ],
  ] as const)('is not told by the time that %s takes', async (_, prepare) => {
    const { status, existing, missing } = await prepare();
    const ask = (one: () => Promise<number>) => async () => expect(await one()).toBe(status);
    for (const warm of [existing, missing]) for (let turn = 0; turn < 5; turn++) await ask(warm)();
    const isApart = (share: number) => share < 0.35 || share > 0.65;
    const shares: number[] = [];
    // On a busy machine one share may be off by chance, and the next one is not: what is really told is off each time.
    while (shares.length < 3 && shares.every(isApart)) {
      shares.push(await moreOftenSlower(60, ask(existing), ask(missing), 30));
      tried(120);
    }
    expect(shares.every(isApart), `share of slower answers: ${shares.join(', ')}`).toBe(false);
  });

  it('is told by a registration alone, which cannot do without, and by nothing of the account', async () => {
    const taken = await app.anonymous.post('/auth/register', {
      email: accounts.open.toUpperCase(),
      password: 'a password of some length',
    });
    tried();
    expect(taken.status).toBe(409);
    expect(Object.keys(taken.body).toSorted()).toEqual(
      ['code', 'detail', 'instance', 'request_id', 'status', 'title', 'type'].toSorted(),
    );
    expect(taken.body.detail).not.toContain(accounts.open);
  });
});

// The last: it starts the application of this file anew.
describe('guessing', () => {
  it('comes to an end on every public route that takes a secret', async () => {
    await app.close();
    app = await startTestApplication({ AUTH_RATE_LIMIT_PER_MINUTE: '4' });
    const word = () => randomUUID();
    const routes: Record<string, () => Promise<Answer>> = {
      login: () => app.anonymous.post('/auth/login', { email: `${word()}@example.com`, password: word() }),
      refresh: () => app.anonymous.post('/auth/refresh', { refresh_token: word() }),
      'forgot-password': () =>
        app.anonymous.post('/auth/forgot-password', { email: `${word()}@example.com` }),
      'reset-password': () =>
        app.anonymous.post('/auth/reset-password', {
          token: word(),
          new_password: 'a password of some length',
        }),
      invitation: () => app.anonymous.get(`/invitations/${word()}`),
      accept: () => app.anonymous.post(`/invitations/${word()}/accept`, {}),
      decline: () => app.anonymous.post(`/invitations/${word()}/decline`),
      // Nobody is another because a header says so.
      'login from elsewhere': () =>
        app.anonymous
          .withHeaders({
            'x-forwarded-for': `10.0.0.${Math.floor(Math.random() * 250)}`,
            'x-real-ip': '10.1.1.1',
          })
          .post('/auth/login', { email: `${word()}@example.com`, password: word() }),
    };
    for (const [what, ask] of Object.entries(routes)) {
      const statuses: number[] = [];
      for (let turn = 0; turn < 6; turn++) {
        const { status, headers } = await ask();
        tried();
        statuses.push(status);
        if (status === 429) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
      }
      expect([what, statuses.at(-1)]).toEqual([what, 429]);
    }
  });
});
