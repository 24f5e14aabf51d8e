import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  BUILT_IN_ROLES,
  PERMISSIONS,
  type Permission,
  TENANT_PERMISSIONS,
  domainKind,
} from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Answer, Client } from '../setup/client.js';
import { tried } from '../setup/isolation-cases.js';
import { keyOf } from '../setup/route-calls.js';

const ROLES = ['owner', 'admin', 'editor', 'viewer', 'viewer_readonly', 'custom'] as const;
type Role = (typeof ROLES)[number];

/** The table of the product's definition, row by row: who holds what. Written out here, not read from the policy. */
const TABLE: Array<[roles: Role[], permissions: string]> = [
  [['owner', 'admin', 'editor', 'viewer', 'viewer_readonly'], 'tenant:read'],
  [
    ['owner', 'admin'],
    `tenant:manage tenant:manage_members tenant:manage_tokens tenant:manage_models tenant:manage_widgets
     tenant:manage_webhooks tenant:read_audit tenant:read_usage tenant:export`,
  ],
  [['owner'], 'tenant:manage_billing tenant:delete'],
  [
    ['owner', 'admin', 'editor'],
    `kb:create kb:update kb:delete document:create document:update document:delete agent:create agent:update
     agent:delete`,
  ],
  [['owner', 'admin', 'editor', 'viewer'], 'kb:read document:read agent:read graph:read'],
  [['owner', 'admin', 'editor', 'viewer', 'viewer_readonly'], 'query:run chat:own'],
  [['owner', 'admin'], 'chat:read_all'],
];

/** A mixture that no built-in role has. */
const CUSTOM: Permission[] = [
  'tenant:read',
  'tenant:read_audit',
  'kb:create',
  'document:read',
  'chat:read_all',
];

const holds = (role: Role, permission: string): boolean =>
  role === 'custom'
    ? CUSTOM.includes(permission as Permission)
    : TABLE.some(([roles, names]) => roles.includes(role) && names.split(/\s+/).includes(permission));

let app: TestApplication;
let routes: GuardedRoute[];
const members = new Map<Role, { id: string; client: Client }>();

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('acme');
  await expectStatus(201, app.admin.post('/tenants/acme/roles', { name: 'custom', permissions: CUSTOM }));
  for (const role of ROLES) members.set(role, await app.createMember('acme', role));
  routes = app.application.nest.get(RouteAccess, { strict: false }).list();
});
afterAll(() => app?.close());

describe('T3 roles', () => {
  it('names every permission of a tenant, and no other', () => {
    const named = TABLE.flatMap(([, names]) => names.split(/\s+/));
    expect(named.toSorted()).toEqual(TENANT_PERMISSIONS.toSorted());
    const builtIn = ROLES.filter(role => role !== 'custom');
    expect(builtIn.toSorted()).toEqual(BUILT_IN_ROLES.toSorted());
  });

  describe.each(ROLES)('%s', role => {
    const own = () => members.get(role) as { id: string; client: Client };
    const client = () => own().client;

    it.each(TENANT_PERMISSIONS)(
      '%s: is what the API says of it, and what its routes do',
      async permission => {
        const { body } = await client().withHeaders({ 'x-tenant-id': 'acme' }).get('/permissions');
        expect(body.granted.includes(permission)).toBe(holds(role, permission));
        const asked = routes.filter(candidate => candidate.permission === permission);
        await atOnce(asked, async route => {
          const may = holds(role, permission) || (route.or !== null && holds(role, route.or));
          if (may && !isHarmless(route)) return;
          const answer = await probe(client(), route, may ? own().id : undefined);
          expect(isRefusal(answer), keyOf(route)).toBe(!may);
          tried();
        });
        tried();
      },
    );

    it('holds nothing of the platform', async () => {
      for (const permission of Object.keys(PERMISSIONS) as Permission[]) {
        if (domainKind(permission) !== 'platform') continue;
        for (const route of routes.filter(candidate => candidate.permission === permission)) {
          const { status } = await probe(client(), route);
          expect(status, keyOf(route)).toBe(403);
          tried();
        }
      }
    });
  });

  it('lets only the owner delete the tenant', async () => {
    for (const role of ROLES) {
      if (role === 'owner') continue;
      expect((await members.get(role)?.client.delete('/tenants/acme'))?.status, role).toBe(403);
      tried();
    }
    await expectStatus(204, (members.get('owner') as { client: Client }).client.delete('/tenants/acme'));
  });
});

/**
 * With ids that nothing has and a body that is none: whoever is let in gets a 404 or 422, and changes nothing.
 *
 * @param reader a user to read about
 */
function probe(client: Client, route: GuardedRoute, reader: string = randomUUID()): Promise<Answer> {
  const ids: Record<string, string> = { tenant: 'acme', ...(route.method === 'GET' && { user: reader }) };
  const path = route.path.replace(/:(\w+)/g, (_, name: string) => ids[name] ?? randomUUID());
  const named = /:tenant\b/.test(route.path) || domainKind(route.permission as Permission) !== 'tenant';
  const caller = named ? client : client.withHeaders({ 'x-tenant-id': 'acme' });
  return caller.send(route.method, path, route.method === 'GET' ? undefined : { no_such_field: 1 });
}

/** Whether a probe by somebody who may cannot change anything: it names something that is not there, or has a body. */
const isHarmless = ({ method, path }: GuardedRoute): boolean =>
  method === 'GET' || /:(?!tenant\b)\w+/.test(path) || (method !== 'DELETE' && !path.endsWith('/leave'));

/** By the guard; what a service refuses for a reason of its own has another code. */
const isRefusal = ({ status, body }: Answer): boolean => status === 403 && body.code === 'forbidden';
