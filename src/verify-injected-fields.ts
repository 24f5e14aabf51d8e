import { randomUUID } from 'node:crypto';
import { Caller, type Sent } from './verify-api.js';
import { type VerifyContext, type VerifyTest, outcomeOf, toldBy } from './verify-context.js';
import { askRoute, secretsIn } from './verify-foreign-ids.js';
import type { TestRecord } from './verify-record.js';
import { bodyOf } from './verify-routes.js';
import { QUESTION } from './verify-tenants.js';

const routesBelowTenant = ({ routes }: VerifyContext) =>
  routes.filter(({ domain, parameters }) => domain === 'tenant' && parameters.includes('tenant'));

/** T2: naming something opens nothing. */
export const injectedFields: VerifyTest = async (context, record) => {
  await contradictions(context, record);
  await foreignTenantBeside(context, record);
  await smuggled(context, record);
  await inBodies(context, record);
};

/** A member of both tenants names them both: what is meant is not guessed. */
async function contradictions(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world, server } = context;
  const { both } = world.people;
  const switched = await both.caller.must('POST', '/auth/switch-tenant', { tenant: world.a.id });
  const inA = Caller.bearer(server, 'member of both, switched to A', switched['access_token'] as string);
  const ways: Array<[what: string, caller: Caller, sent: Sent]> = [
    ['X-Tenant-ID names another tenant', both.caller, { headers: { 'x-tenant-id': world.a.id } }],
    ['the query names another tenant', both.caller, { query: { tenant: world.a.id } }],
    ['the token names another tenant', inA, {}],
  ];
  const asked = routesBelowTenant(context).flatMap(route => ways.map(way => ({ route, way })));
  await record.each(asked, async ({ route, way: [what, caller, sent] }) => {
    const answer = await askRoute(context, caller, route, world.b.ids, sent);
    record.check(answer.status === 400 && answer.body['code'] === 'tenant_mismatch', () => ({
      where: route.key,
      who: `${caller.name}: ${what} than the path`,
      expected: '400 tenant_mismatch',
      got: outcomeOf(answer),
    }));
  });
}

/** Whoever belongs to one names the other: it is as if there were none. */
async function foreignTenantBeside(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  const { owner } = world.people.b;
  const ways: Array<[what: string, sent: (tenant: string) => Sent]> = [
    ['in X-Tenant-ID', tenant => ({ headers: { 'x-tenant-id': tenant } })],
    ['in the query', tenant => ({ query: { tenant } })],
  ];
  const asked = context.routes
    .filter(({ permission }) => permission !== null)
    .flatMap(route => ways.map(way => ({ route, way })));
  await record.each(asked, async ({ route, way: [what, sent] }) => {
    const missing = randomUUID();
    const ask = (tenant: string) => askRoute(context, owner.caller, route, world.b.ids, sent(tenant));
    const [theirs, nobodys] = [await ask(world.a.id), await ask(missing)];
    const same = toldBy(theirs, world.a.id) === toldBy(nobodys, missing);
    record.check(same && theirs.status === 404, () => ({
      where: route.key,
      who: `${owner.caller.name}: a foreign tenant ${what}`,
      expected: '404, as for a tenant that does not exist',
      got: outcomeOf(theirs),
    }));
  });
}

/** What other systems have believed. */
async function smuggled(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  const { viewer } = world.people.b;
  const boss = world.userId('owner-of-a');
  const ways: Array<[what: string, sent: Sent]> = [
    [
      'headers',
      {
        headers: {
          'x-tenant': world.a.id,
          'x-tenantid': world.a.id,
          'x-user-id': boss,
          'x-role': 'owner',
          'x-forwarded-user': boss,
          'x-original-url': `/api/v1/tenants/${world.a.id}`,
          'x-rewrite-url': `/api/v1/tenants/${world.a.id}`,
          'x-http-method-override': 'GET',
          cookie: `tenant=${world.a.id}; tenant_id=${world.a.id}; user_id=${boss}; role=owner`,
        },
      },
    ],
    [
      'fields of the query',
      {
        query: {
          tenant_id: world.a.id,
          tenantId: world.a.id,
          owner_id: boss,
          created_by: boss,
          createdBy: boss,
          role: 'owner',
        },
      },
    ],
  ];
  const asked = context.routes
    .filter(({ permission }) => permission !== null)
    .flatMap(route => ways.map(way => ({ route, way })));
  await record.each(asked, async ({ route, way: [what, sent] }) => {
    const plain = await askRoute(context, viewer.caller, route, world.b.ids);
    const answer = await askRoute(context, viewer.caller, route, world.b.ids, sent);
    // What is not known may be refused; it opens nothing.
    const statuses = [plain.status, 400, 404, 422];
    const found = secretsIn(context, answer);
    record.check(statuses.includes(answer.status) && found.length === 0, () => ({
      where: route.key,
      who: `${viewer.caller.name}: ${what} of another tenant`,
      expected: `${outcomeOf(plain)}, or a refusal`,
      got: found.length > 0 ? `of the other tenant: ${found.join(', ')}` : outcomeOf(answer),
    }));
  });
}

async function inBodies(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  const { owner } = world.people.b;
  const boss = world.userId('owner-of-a');
  const unknown: Record<string, unknown> = {
    tenantId: world.a.id,
    id: randomUUID(),
    owner_id: boss,
    ownerId: boss,
    created_by: boss,
    createdBy: boss,
    user_id: boss,
    userId: boss,
    role: 'owner',
    access: 'all',
  };
  const asking = context.routes.filter(({ question }) => question !== null);
  const fields = asking.flatMap(route => Object.entries(unknown).map(field => ({ route, field })));
  await record.each(fields, async ({ route, field: [name, value] }) => {
    const body = bodyOf(route, QUESTION, { [name]: value });
    const answer = await askRoute(context, owner.caller, route, world.b.ids, { body });
    record.check(answer.status === 422, () => ({
      where: route.key,
      who: `${owner.caller.name}: ${name} in the body`,
      expected: '422, because there is no such field',
      got: outcomeOf(answer),
    }));
  });
  await record.each(asking, async route => {
    const missing = randomUUID();
    const ask = (tenant: string) =>
      askRoute(context, owner.caller, route, world.b.ids, {
        body: bodyOf(route, QUESTION, { tenant_id: tenant }),
      });
    const [theirs, nobodys] = [await ask(world.a.id), await ask(missing)];
    const same = toldBy(theirs, world.a.id) === toldBy(nobodys, missing);
    record.check(same && theirs.status === 404, () => ({
      where: route.key,
      who: `${owner.caller.name}: a foreign tenant_id in the body`,
      expected: '404, as for a tenant that does not exist',
      got: outcomeOf(theirs),
    }));
  });
}
