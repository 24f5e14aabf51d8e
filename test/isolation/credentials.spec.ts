import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TENANT_PERMISSIONS } from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer, Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';

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

describe('every route that is not public', () => {
  it.each([
    ['no credential', () => app.anonymous],
    ['a word', () => app.anonymous.withToken('word')],
    ['an unsigned JWT', () => app.anonymous.withToken(unsigned())],
    ['a token that was never made', () => app.anonymous.withToken(`rk_live_${'A'.repeat(43)}`)],
    ['… as X-API-Key', () => app.anonymous.withHeaders({ 'x-api-key': `rk_live_${'A'.repeat(43)}` })],
    ['a revoked token', () => revoked()],
    ['a token that is switched off', () => switchedOff()],
    ['a token of somebody who has left', () => ofFormerMember()],
    ['a token of another secret', () => ofAnotherSecret()],
  ])('refuses %s', async (_, credential) => {
    const client = await credential();
    for (const route of routes) {
      const { status } = await call(client, route);
      expect(status, keyOf(route)).toBe(401);
    }
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
    for (const route of routes) {
      const { status, body } = await call(client, route);
      expect([status, body.code], keyOf(route)).toEqual([403, 'publishable_token']);
    }
  });

  it('refuses a token that has every scope but its own', async () => {
    const clients = new Map<string, Client>();
    for (const route of routes) {
      const own = [route.permission, route.or].filter(permission => permission !== null).join(' or ');
      const scopes = TENANT_PERMISSIONS.filter(scope => scope !== route.permission && scope !== route.or);
      if (!clients.has(own)) {
        clients.set(own, (await issueToken(app, owner, TENANT, { ...RATE, scopes })).client);
      }
      if (!isTenants(route) && forTokens.has(keyOf(route))) continue;
      const { status, body } = await call(clients.get(own) as Client, route);
      expect(status, keyOf(route)).toBe(403);
      expect(['forbidden', 'token_not_allowed'], keyOf(route)).toContain(body.code);
    }
  });

  it('opens to a token with its scope alone, where tokens may come', async () => {
    const clients = new Map<string, Client>();
    for (const route of routes.filter(isTenants)) {
      // It would be the last thing that this test does.
      if (keyOf(route) === 'DELETE /tenants/:tenant') continue;
      const scope = route.permission as string;
      if (!clients.has(scope)) {
        clients.set(scope, (await issueToken(app, owner, TENANT, { ...RATE, scopes: [scope] })).client);
      }
      const { status, body } = await call(clients.get(scope) as Client, route);
      // What it names decides about more than that: somebody else's rights, for one.
      const refused =
        status === 401 ||
        body?.code === 'token_not_allowed' ||
        body?.detail === `This needs the permission ${scope}.`;
      expect(refused, `${keyOf(route)}: ${status} ${body?.code}`).toBe(!forTokens.has(keyOf(route)));
    }
  });

  it('is closed to every token of a suspended tenant, and open again afterwards', async () => {
    const { client } = await issueToken(app, owner, TENANT, { ...RATE, scopes: TENANT_PERMISSIONS });
    await expectStatus(200, app.admin.post(`/tenants/${TENANT}/suspend`));
    for (const route of routes.filter(isTenants)) {
      const { status, body } = await call(client, route);
      expect([status, body.code], keyOf(route)).toEqual([403, 'tenant_suspended']);
    }
    await expectStatus(200, app.admin.post(`/tenants/${TENANT}/activate`));
    expect((await client.get(`/tenants/${TENANT}`)).status).toBe(200);
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

function unsigned(): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { sub: randomUUID(), sid: randomUUID(), iss: 'enclave', exp: 4_102_444_800 };
  return `${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.`;
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
