import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { GuardedRoute } from '../../src/core/authorization/route-access.js';
import { type TestApplication, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Answer, Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { ofTurn, tried } from '../setup/isolation-cases.js';
import { type Ids, callRoute, expectSame, keyOf, nameOfNothing, parametersOf } from '../setup/route-calls.js';
import { addTwoTenants } from './two-tenants.js';

/** What a path may name. */
const PATH_KINDS = [
  'tenant',
  'tenant name',
  'kb',
  'kb slug',
  'document',
  'user',
  'role',
  'group',
  'grant',
  'invitation',
  'variable',
  'job',
  'session',
  'token',
  'webhook',
  'delivery',
  'alert',
  'model',
  'agent',
  'chat',
  'message',
  'evaluation',
  'entity',
];

/** Parameters of paths that name nothing of a tenant. */
const NOT_TENANTS = { template: 'the platform’s own' };

let app: TestApplication;
let routes: GuardedRoute[];
/** Tenant A, the victim, and B, whose people try. */
let a: Ids;
let b: Ids;
let secrets: string[];
let credentials: Map<string, Client>;
let checksum: () => Promise<string>;
let before: string;

beforeAll(async () => {
  app = await startTestApplication();
  ({ routes, a, b, secrets, credentials, checksum } = await addTwoTenants(app));
  before = await checksum();
});
afterAll(() => app?.close());

afterEach(async () => {
  expect(await checksum(), 'what tenant A keeps').toBe(before);
});

describe('T1 foreign ids', () => {
  describe('a path', () => {
    it('names every parameter that these tests know', () => {
      const parameters = new Set(routes.flatMap(route => parametersOf(route)));
      expect([...parameters].filter(name => !(name in a))).toEqual([]);
      const known = new Set([...PATH_KINDS.map(kind => kind.split(' ', 1)[0]), ...Object.keys(NOT_TENANTS)]);
      expect([...parameters].filter(name => !known.has(name))).toEqual([]);
    });

    it.each([
      // Of many routes: in two halves, each with its time limit.
      ['tenant', 'reads'],
      ['tenant', 'changes'],
      ['tenant name', 'reads'],
      ['tenant name', 'changes'],
      ...PATH_KINDS.filter(kind => !kind.startsWith('tenant')).map(
        kind => [kind, 'reads and changes'] as const,
      ),
    ] as const)('with the foreign %s is answered as if it named nothing, by %s', async (kind, what) => {
      const parameter = kind.split(' ', 1)[0] as string;
      const asked = routes.filter(
        route =>
          parametersOf(route).includes(parameter) &&
          what.split(' and ').includes(route.method === 'GET' ? 'reads' : 'changes'),
      );
      const asking = [...credentials].filter(
        ([who]) =>
          // The platform admin may enter both tenants, but finds nothing of one in the other.
          (parameter !== 'tenant' || who !== 'platform admin') &&
          // A name only selects: of those to whom it is foreign, one of each kind of credential tries it.
          (kind !== 'tenant name' || ['owner', 'viewer', 'API token', 'stranger'].includes(who)),
      );
      for (const [index, route] of asked.entries()) {
        // To whom a tenant is foreign all tenants are, whoever it is: each route tells another one of them what there is not.
        const [, one] = asking[index % asking.length] as [string, Client];
        const noTenant =
          parameter === 'tenant' ? await callRoute(one, route, { ...a, tenant: nameOfNothing(kind) }) : null;
        await atOnce(ofTurn(asking, index), async ([who, client]) => {
          // The platform admin made both tenants, and asked for that job.
          if (parameter === 'job' && who === 'platform admin') return;
          // What is not there yet is made under this name in one's own tenant.
          if (parameter === 'variable' && route.method === 'PUT') return;
          // Users belong to the installation, whose people may see all of them.
          if (route.permission?.startsWith('platform:') && who === 'platform admin') return;
          // Below a foreign tenant stands what really is there; below one's own only the one parameter is foreign.
          const base = parameter === 'tenant' ? a : b;
          // Of messages the path names no tenant.
          const caller =
            parameter === 'message' ? client.withHeaders({ 'x-tenant-id': b['tenant'] as string }) : client;
          const foreign = await callRoute(caller, route, { ...base, [parameter]: a[kind] as string });
          const unknown =
            noTenant ?? (await callRoute(caller, route, { ...base, [parameter]: nameOfNothing(kind) }));
          expectSame(foreign, unknown, `${who}: ${keyOf(route)}`);
          expect([403, 404], `${who}: ${keyOf(route)}`).toContain(foreign.status);
          const mayTry =
            parameter === 'tenant' || who === 'owner' || who === 'platform admin' || who === 'stranger';
          if (mayTry && !route.permission?.startsWith('platform:'))
            expect(foreign.status, `${who}: ${keyOf(route)}`).toBe(404);
          tried();
        });
      }
    });

    it('that mixes the parts of both tenants leads nowhere', async () => {
      const owner = credentials.get('owner') as Client;
      for (const route of routes.filter(candidate => parametersOf(candidate).includes('document'))) {
        const mixed = await callRoute(owner, route, { ...a, tenant: b['tenant'] as string });
        const unknown = await callRoute(owner, route, { ...b, kb: randomUUID(), document: randomUUID() });
        expectSame(mixed, unknown, keyOf(route));
        expect(mixed.status, keyOf(route)).toBe(404);
        tried();
      }
    });
  });

  describe('a tenant named beside the path', () => {
    it('in the header or the query is answered as if there were none of that name', async () => {
      // Which role somebody has is asked after that, and what names the tenant before: one of the most may try both.
      const asking: Array<[who: string, kinds: string[]]> = [
        ['owner', ['tenant', 'tenant name']],
        ['stranger', ['tenant name']],
        ['API token', ['tenant']],
      ];
      const closed = routes.filter(({ permission }) => permission !== null);
      await atOnce(closed.entries(), async ([turn, route]) => {
        for (const [who, kinds] of ofTurn(asking, turn)) {
          const client = credentials.get(who) as Client;
          for (const kind of kinds) {
            const named = (value: string) => [
              callRoute(client.withHeaders({ 'x-tenant-id': value }), route, b),
              callRoute(client, route, b, { query: `?tenant=${value}` }),
            ];
            const foreign = await Promise.all(named(a[kind] as string));
            const unknown = await Promise.all(named(nameOfNothing(kind)));
            foreign.forEach((answer, index) => {
              expectSame(answer, unknown[index] as Answer, `${who}: ${keyOf(route)}`);
              expect(answer.status, `${who}: ${keyOf(route)}`).toBe(404);
            });
            tried(foreign.length);
          }
        }
      });
    });

    it('in the body is answered as if there were none of that name', async () => {
      const taking = routes.filter(candidate => candidate.permission !== null && isJson(keyOf(candidate)));
      for (const [index, route] of taking.entries()) {
        await atOnce(ofTurn(credentials, index), async ([who, client]) => {
          if (who === 'platform admin') return;
          const send = (value: string) => callRoute(client, route, b, { fields: { tenant_id: value } });
          const foreign = await send(a['tenant'] as string);
          expectSame(foreign, await send(randomUUID()), `${who}: ${keyOf(route)}`);
          expect(foreign.status, `${who}: ${keyOf(route)}`).toBe(404);
          tried();
        });
      }
    });
  });

  describe('what one’s own tenant shows', () => {
    it('has no id of another in it', async () => {
      const reading = routes.filter(({ method, permission }) => method === 'GET' && permission !== null);
      for (const [index, route] of reading.entries()) {
        await atOnce(ofTurn(credentials, index), async ([who, client]) => {
          if (who === 'platform admin' && parametersOf(route).length === 0) return;
          const inTenant = parametersOf(route).includes('tenant')
            ? client
            : client.withHeaders({ 'x-tenant-id': b['tenant'] as string });
          const answer = await callRoute(inTenant, route, b);
          const text = JSON.stringify(answer.body);
          expect(
            secrets.filter(id => text.includes(id)),
            `${who}: ${keyOf(route)}`,
          ).toEqual([]);
          // The job that the fixture knows is somebody else's.
          if (
            who === 'owner' &&
            !route.permission?.startsWith('platform:') &&
            !route.path.startsWith('/jobs/:job')
          )
            expect(answer.status, keyOf(route)).toBe(200);
          tried();
        });
      }
    });
  });
});

function isJson(key: string): boolean {
  const example = EXAMPLE_BODIES[key];
  return example !== undefined && !(example() instanceof FormData);
}
