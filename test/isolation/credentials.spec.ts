import { createHmac, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TENANT_PERMISSIONS, domainKind } from '../../src/core/authorization/permissions.js';
import type { Permission } from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { type Env, SettingsError, parseEnv } from '../../src/foundation/config/env.js';
import { loadSecrets } from '../../src/foundation/crypto/secrets.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Answer, Client } from '../setup/client.js';
import { TEST_SECRET } from '../setup/database.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { ofTurn, tried } from '../setup/isolation-cases.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';

const RATE = { rate_limit_per_minute: 1_000_000 };
const TENANT = 'own';

let app: TestApplication;
let tenantId: string;
/** Those that need a credential. */
let routes: GuardedRoute[];
/** `METHOD /path` of those that an API token may call. */
let forTokens: Set<string>;
let owner: Client;

beforeAll(async () => {
  app = await startTestApplication();
  tenantId = (await app.createTenant(TENANT)).id;
  owner = (await app.createMember(TENANT, 'owner')).client;
  routes = app.application.nest
    .get(RouteAccess, { strict: false })
    .list()
    .filter(({ permission }) => permission !== null);
  forTokens = await routesForTokens();
});
afterAll(() => app?.close());

const keyOf = ({ method, path }: GuardedRoute): string => `${method} ${path}`;
const isTenants = ({ permission }: GuardedRoute): boolean =>
  (TENANT_PERMISSIONS as string[]).includes(permission as string);

/** Below one's own tenant nothing that is named is there: what is asked of whoever calls, is asked before. */
function call(client: Client, route: GuardedRoute): Promise<Answer> {
  const path = route.path.replace(/:(\w+)/g, (_, name: string) =>
    name === 'tenant' ? TENANT : randomUUID(),
  );
  const named = route.path.includes(':tenant') ? client : client.withHeaders({ 'x-tenant-id': TENANT });
  const example = EXAMPLE_BODIES[keyOf(route)]?.();
  // Named in the body, a tenant that is not there is asked for before anything else.
  const body = example && 'tenant_id' in example ? { ...example, tenant_id: tenantId } : example;
  return named.send(route.method, path, body);
}

/** Asks every one of these routes, and expects of each answer what `expected` does. */
async function expectOfEach(
  asked: readonly GuardedRoute[],
  clientOf: Client | ((route: GuardedRoute) => Client),
  expected: (answer: Answer, route: GuardedRoute) => void,
): Promise<void> {
  await atOnce(asked, async route => {
    const client = typeof clientOf === 'function' ? clientOf(route) : clientOf;
    expected(await call(client, route), route);
    tried();
  });
}

let turns = 0;

const expectRefused = (client: Client) =>
  expectOfEach(ofTurn(routes, turns++), client, ({ status }, route) =>
    expect(status, keyOf(route)).toBe(401),
  );

describe('T3 credentials', () => {
  describe('every route that is not public', () => {
    it.each([
      ['no credential', () => app.anonymous],
      ['a word', () => app.anonymous.withToken('word')],
      ['an unsigned JWT', () => withClaims({}, { alg: 'none', key: null })],
      ['a JWT that is signed with another key', () => withClaims({}, { key: 'x'.repeat(64) })],
      ['… by another algorithm with the right one', () => withClaims({}, { alg: 'HS512', hash: 'sha512' })],
      ['… that names another algorithm than it was signed by', () => withClaims({}, { alg: 'RS256' })],
      [
        '… that brings its own key',
        () => withClaims({}, { key: 'mine', header: { jwk: { kty: 'oct', k: 'bWluZQ' } } }),
      ],
      ['… whose signature is cut off', () => withoutSignature()],
      ['a JWT of another issuer', () => withClaims({ iss: 'somebody else' })],
      ['… of none', () => withClaims({ iss: undefined })],
      ['… that has expired', () => withClaims({ exp: Math.floor(Date.now() / 1000) - 1 })],
      ['… that does not hold yet', () => withClaims({ nbf: Math.floor(Date.now() / 1000) + 3600 })],
      ['… of another user than the session', () => withClaims({ sub: randomUUID() })],
      ['… of a session that never was', () => withClaims({ sid: randomUUID() })],
      ['… without a session', () => withClaims({ sid: undefined })],
      ['a JWT whose session was signed out', () => signedOut()],
      ['… was revoked from another one', () => revokedSession()],
      ['… ended with a changed password', () => changedPassword()],
      ['a refresh token', async () => app.anonymous.withToken((await app.createUser()).refreshToken)],
      ['an invitation’s token', async () => app.anonymous.withToken(await invitationToken())],
      ['a token to reset a password with', async () => app.anonymous.withToken(await resetToken())],
      ['a password', async () => app.anonymous.withToken((await app.createUser()).password)],
      ['a session of somebody whose account was closed', async () => (await closedAccount()).client],
      ['… their API token', async () => (await closedAccount()).token],
      ['a token that was never made', () => app.anonymous.withToken(`rk_live_${'A'.repeat(43)}`)],
      ['… as X-API-Key', () => app.anonymous.withHeaders({ 'x-api-key': `rk_live_${'A'.repeat(43)}` })],
      ['a revoked token', () => revoked()],
      ['a token that is switched off', () => switchedOff()],
      ['a token that has expired', () => expiredToken()],
      ['a token before its rotation', () => rotatedAway()],
      ['a token of somebody who has left', () => ofFormerMember()],
      ['a token of somebody who is suspended in the tenant', () => ofSuspendedMember()],
      ['a token of another secret', () => ofAnotherSecret()],
    ])('refuses %s', async (_, credential) => {
      await expectRefused(await credential());
    });

    it('takes the JWT that these were made of', async () => {
      const { status } = await withClaims({}).get('/auth/me');
      expect(status).toBe(200);
      tried();
    });

    it('refuses a publishable token', async () => {
      const { body: kb } = await owner.get(`/tenants/${TENANT}/kbs/docs`);
      const { client } = await issueToken(app, owner, TENANT, {
        ...RATE,
        kind: 'publishable',
        scopes: undefined,
        kb_ids: [kb.id],
        allowed_origins: ['https://www.example.com'],
      });
      await expectOfEach(routes, client, ({ status, body }, route) =>
        expect([status, body.code], keyOf(route)).toEqual([403, 'publishable_token']),
      );
    });

    it('refuses a token that has every scope but its own', async () => {
      const clients = new Map<string, Client>();
      const ownOf = (route: GuardedRoute) =>
        [route.permission, route.or].filter(permission => permission !== null).join(' or ');
      const asked = routes.filter(route => isTenants(route) || !forTokens.has(keyOf(route)));
      for (const route of asked) {
        if (clients.has(ownOf(route))) continue;
        const scopes = TENANT_PERMISSIONS.filter(scope => scope !== route.permission && scope !== route.or);
        clients.set(ownOf(route), (await issueToken(app, owner, TENANT, { ...RATE, scopes })).client);
      }
      await expectOfEach(
        asked,
        route => clients.get(ownOf(route)) as Client,
        ({ status, body }, route) => {
          expect(status, keyOf(route)).toBe(403);
          expect(['forbidden', 'token_not_allowed'], keyOf(route)).toContain(body.code);
        },
      );
    });

    it('opens to a token with its scope alone, where tokens may come', async () => {
      const clients = new Map<string, Client>();
      // The last one would be the last thing that this test does.
      const asked = routes.filter(route => isTenants(route) && keyOf(route) !== 'DELETE /tenants/:tenant');
      for (const { permission } of asked) {
        const scope = permission as string;
        if (!clients.has(scope))
          clients.set(scope, (await issueToken(app, owner, TENANT, { ...RATE, scopes: [scope] })).client);
      }
      await expectOfEach(
        asked,
        route => clients.get(route.permission as string) as Client,
        ({ status, body }, route) => {
          // What it names decides about more than that: somebody else's rights, for one.
          const refused =
            status === 401 ||
            body?.code === 'token_not_allowed' ||
            body?.detail === `This needs the permission ${route.permission}.`;
          expect(refused, `${keyOf(route)}: ${status} ${body?.code}`).toBe(!forTokens.has(keyOf(route)));
          expect(status, keyOf(route)).toBeLessThan(500);
          // What names nothing below the tenant, and nothing that it needs beside its path, is there.
          const isThere =
            route.method === 'GET' &&
            !/:(?!tenant\b)/.test(route.path) &&
            route.path.startsWith('/tenants/:tenant');
          if (isThere && !refused) expect(status, keyOf(route)).toBe(200);
        },
      );
    });
  });

  describe('everything', () => {
    it('of a tenant is closed to a member who was removed or suspended, as if there were none', async () => {
      const kept = await app.createMember(TENANT, 'admin');
      for (const end of [
        (id: string) => expectStatus(204, app.admin.delete(`/tenants/${TENANT}/members/${id}`)),
        (id: string) =>
          expectStatus(200, app.admin.patch(`/tenants/${TENANT}/members/${id}`, { status: 'suspended' })),
      ]) {
        const { id, client } = await app.createMember(TENANT, 'admin');
        await expectStatus(200, client.get(`/tenants/${TENANT}`));
        await end(id);
        // What is missing below a tenant is a 404 as well: this one is the tenant's own.
        await expectOfEach(routes.filter(isTenants), client, ({ status, body }, route) =>
          expect([status, body.code, body.detail], keyOf(route)).toEqual([
            404,
            'not_found',
            'There is no such tenant.',
          ]),
        );
      }
      await expectStatus(200, kept.client.get(`/tenants/${TENANT}`));
    });

    it('of a suspended tenant is closed to every credential, and open again afterwards', async () => {
      const token = await issueToken(app, owner, TENANT, { ...RATE, scopes: TENANT_PERMISSIONS });
      const user = await app.createUser();
      await expectStatus(
        201,
        app.admin.post(`/tenants/${TENANT}/members`, { user_id: user.id, role: 'viewer' }),
      );
      const switched = await expectStatus(200, user.client.post('/auth/switch-tenant', { tenant: TENANT }));
      const members = [owner, token.client, user.client, app.anonymous.withToken(switched.body.access_token)];
      await expectStatus(200, app.admin.post(`/tenants/${TENANT}/suspend`));
      for (const client of members) {
        await expectOfEach(routes.filter(isTenants), client, ({ status, body }, route) =>
          expect([status, body.code], keyOf(route)).toEqual([403, 'tenant_suspended']),
        );
      }
      await expectStatus(200, app.admin.post(`/tenants/${TENANT}/activate`));
      for (const client of members) expect((await client.get(`/tenants/${TENANT}`)).status).toBe(200);
    });
  });

  it('a suspended account ends all that is its own at once, and its sessions for good', async () => {
    const { id, email, password, refreshToken, client } = await app.createUser();
    await expectStatus(201, app.admin.post(`/tenants/${TENANT}/members`, { user_id: id, role: 'admin' }));
    const second = await signIn(app.anonymous, { email, password });
    const { client: token } = await issueToken(app, client, TENANT, { ...RATE });
    const { client: other } = await issueToken(app, second, TENANT, { ...RATE });
    const asAll = () =>
      Promise.all([
        ...[client, second].map(session => session.get('/auth/me')),
        ...[client, second, token, other].map(credential => credential.get(`/tenants/${TENANT}`)),
      ]);
    expect((await asAll()).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    await expectStatus(200, app.admin.patch(`/users/${id}`, { is_active: false }));
    expect((await asAll()).map(({ status }) => status)).toEqual([401, 401, 401, 401, 401, 401]);
    const entries = [
      await app.anonymous.post('/auth/refresh', { refresh_token: refreshToken }),
      await app.anonymous.post('/auth/login', { email, password }),
    ];
    expect(entries.map(({ status, body }) => [status, body.code])).toEqual([
      [401, 'invalid_refresh_token'],
      [401, 'invalid_credentials'],
    ]);
    await expectStatus(200, app.admin.patch(`/users/${id}`, { is_active: true }));
    expect((await asAll()).map(({ status }) => status)).toEqual([401, 401, 401, 401, 200, 200]);
    tried(20);
  });

  it('what a token is good for, it is good for alone', async () => {
    const [invitation, reset] = [await invitationToken(), await resetToken()];
    const { refreshToken } = await app.createUser();
    const { secret } = await issueToken(app, owner, TENANT);
    const accessToken = owner.token as string;
    const uses: Record<string, (token: string) => Promise<Answer>> = {
      'refresh token': token => app.anonymous.post('/auth/refresh', { refresh_token: token }),
      'reset token': token =>
        app.anonymous.post('/auth/reset-password', { token, new_password: 'a password of some length' }),
      'invitation token': token => app.anonymous.get(`/invitations/${encodeURIComponent(token)}`),
    };
    const tokens: Record<string, string> = {
      'refresh token': refreshToken,
      'reset token': reset,
      'invitation token': invitation,
      'API token': secret,
      'access token': accessToken,
    };
    for (const [use, present] of Object.entries(uses)) {
      for (const [name, token] of Object.entries(tokens)) {
        const { status } = await present(token);
        if (name === use) expect(status, `${name} as ${use}`).toBeLessThan(300);
        else expect([401, 404, 422], `${name} as ${use}`).toContain(status);
        tried();
      }
    }
  });

  it('secrets that anybody could know stop the start in production', () => {
    const secrets = { JWT_SECRET: `${randomUUID()}-one`, ENCRYPTION_KEY: `${randomUUID()}-two` };
    const start = (changes: Record<string, string | undefined>): Env =>
      parseEnv({ NODE_ENV: 'production', ...secrets, ...changes });
    expect(loadSecrets(start({}))).toMatchObject({ jwtSecret: secrets.JWT_SECRET });
    const weak = [
      undefined,
      '',
      'secret',
      'short-but-random-0f9a',
      'a'.repeat(64),
      '0'.repeat(64),
      'change-me-change-me-change-me-change-me',
      'your-jwt-secret-your-jwt-secret-your-jwt',
      'replace_this_with: openssl rand -hex 32',
    ];
    for (const name of ['JWT_SECRET', 'ENCRYPTION_KEY']) {
      for (const value of weak) {
        expect(() => start({ [name]: value }), `${name}=${value}`).toThrow(SettingsError);
        tried();
      }
    }
    expect(() => start({ JWT_SECRET: secrets.ENCRYPTION_KEY })).toThrow(/must differ/);
    tried();
  });

  it('what is in a tenant is asked for there, even where the platform may come in', () => {
    const inTenants = routes.filter(({ path }) => path.startsWith('/tenants/:tenant/kbs'));
    const asked = inTenants.map(({ permission }) => domainKind(permission as Permission));
    expect(new Set(asked)).toEqual(new Set(['tenant']));
    tried();
  });
});

/** As the API document says it. */
async function routesForTokens(): Promise<Set<string>> {
  const { body: api } = await app.anonymous.get('//openapi.json');
  const found = new Set<string>();
  for (const [path, operations] of Object.entries<any>(api.paths)) {
    for (const [method, { security = [] }] of Object.entries<any>(operations)) {
      if (!security.some((scheme: object) => 'apiKey' in scheme)) continue;
      found.add(`${method.toUpperCase()} ${path.replace('/api/v1', '').replace(/\{(\w+)\}/g, ':$1')}`);
    }
  }
  expect(found.size).toBeGreaterThan(50);
  return found;
}

/** The owner's own access token, with other claims, signed as said. */
function withClaims(
  claims: Record<string, unknown>,
  {
    alg = 'HS256',
    hash = 'sha256',
    key = TEST_SECRET,
    header = {},
  }: { alg?: string; hash?: string; key?: string | null; header?: object } = {},
): Client {
  const own = JSON.parse(
    Buffer.from((owner.token as string).split('.')[1] as string, 'base64url').toString(),
  );
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg, typ: 'JWT', ...header })}.${part({ ...own, ...claims })}`;
  const signature = key === null ? '' : createHmac(hash, key).update(signed).digest('base64url');
  return app.anonymous.withToken(`${signed}.${signature}`);
}

function withoutSignature(): Client {
  const [header, payload] = (owner.token as string).split('.');
  return app.anonymous.withToken(`${header}.${payload}.`);
}

async function signedOut(): Promise<Client> {
  const { client } = await app.createMember(TENANT, 'owner');
  await expectStatus(200, client.get(`/tenants/${TENANT}`));
  await expectStatus(204, client.post('/auth/logout'));
  return client;
}

async function revokedSession(): Promise<Client> {
  const { email, password, client } = await app.createUser();
  const other = await signIn(app.anonymous, { email, password });
  await expectStatus(200, client.get('/auth/me'));
  await other.delete('/auth/sessions');
  return client;
}

async function changedPassword(): Promise<Client> {
  const { email, password, client } = await app.createUser();
  const other = await signIn(app.anonymous, { email, password });
  await expectStatus(200, other.get('/auth/me'));
  await expectStatus(
    204,
    client.post('/auth/change-password', {
      current_password: password,
      new_password: 'another password of some length',
    }),
  );
  return other;
}

async function invitationToken(): Promise<string> {
  const email = `guest-${randomUUID()}@example.com`;
  await expectStatus(201, app.admin.post(`/tenants/${TENANT}/invitations`, { email, role: 'owner' }));
  return tokenIn(await mailFolder(app.env.dataDir).waitFor(email));
}

async function resetToken(): Promise<string> {
  const { email } = await app.createMember(TENANT, 'owner');
  await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email }));
  return tokenIn(await mailFolder(app.env.dataDir).waitFor(email));
}

/** An owner's session and API token, both of them used before. */
async function closedAccount(): Promise<{ client: Client; token: Client }> {
  const { id, client } = await app.createMember(TENANT, 'owner');
  const { client: token } = await issueToken(app, client, TENANT, { ...RATE, scopes: TENANT_PERMISSIONS });
  for (const credential of [client, token]) await expectStatus(200, credential.get(`/tenants/${TENANT}`));
  await expectStatus(200, app.admin.patch(`/users/${id}`, { is_active: false }));
  return { client, token };
}

async function expiredToken(): Promise<Client> {
  for (let lifetime = 1_500; ; lifetime *= 3) {
    const made = await owner.post(`/tenants/${TENANT}/api-tokens`, {
      name: `Token ${randomUUID()}`,
      scopes: TENANT_PERMISSIONS,
      expires_at: new Date(Date.now() + lifetime).toISOString(),
    });
    const client = app.anonymous.withToken(made.body.secret);
    const status = async () => (await client.get(`/tenants/${TENANT}`)).status;
    // Where the machine is busy its time may be over before it was used once.
    const inTime = made.status === 201 && (await status()) === 200;
    if (!inTime && lifetime < 30_000) continue;
    expect(inTime, 'a token that has not expired').toBe(true);
    await expect.poll(status, { timeout: lifetime + 5_000, interval: 200 }).toBe(401);
    return client;
  }
}

async function rotatedAway(): Promise<Client> {
  const { id, client } = await issueToken(app, owner, TENANT, { scopes: TENANT_PERMISSIONS });
  await expectStatus(200, client.get(`/tenants/${TENANT}`));
  const rotated = await owner.post(`/tenants/${TENANT}/api-tokens/${id}/rotate`, { overlap_seconds: 0 });
  expect(rotated.status).toBeLessThan(300);
  return client;
}

async function ofSuspendedMember(): Promise<Client> {
  const admin = await app.createMember(TENANT, 'admin');
  const { client } = await issueToken(app, admin.client, TENANT, { scopes: ['tenant:read', 'kb:read'] });
  await expectStatus(200, client.get(`/tenants/${TENANT}`));
  await expectStatus(200, owner.patch(`/tenants/${TENANT}/members/${admin.id}`, { status: 'suspended' }));
  return client;
}

async function revoked(): Promise<Client> {
  const { id, client } = await issueToken(app, owner, TENANT, { scopes: TENANT_PERMISSIONS });
  expect((await client.get(`/tenants/${TENANT}`)).status).toBe(200);
  await expectStatus(204, owner.delete(`/tenants/${TENANT}/api-tokens/${id}`));
  return client;
}

async function switchedOff(): Promise<Client> {
  const { id, client } = await issueToken(app, owner, TENANT, { scopes: TENANT_PERMISSIONS });
  expect((await client.get(`/tenants/${TENANT}`)).status).toBe(200);
  await expectStatus(200, owner.patch(`/tenants/${TENANT}/api-tokens/${id}`, { is_active: false }));
  return client;
}

async function ofFormerMember(): Promise<Client> {
  const admin = await app.createMember(TENANT, 'admin');
  const { client } = await issueToken(app, admin.client, TENANT, { scopes: ['tenant:read', 'kb:read'] });
  expect((await client.get(`/tenants/${TENANT}`)).status).toBe(200);
  await expectStatus(204, owner.delete(`/tenants/${TENANT}/members/${admin.id}`));
  return client;
}

/** The prefix is right. */
async function ofAnotherSecret(): Promise<Client> {
  const { secret } = await issueToken(app, owner, TENANT, { scopes: TENANT_PERMISSIONS });
  const last = secret.at(-5) === 'A' ? 'B' : 'A';
  return app.anonymous.withToken(`${secret.slice(0, -5)}${last}${secret.slice(-4)}`);
}
