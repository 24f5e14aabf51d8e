import { randomUUID } from 'node:crypto';
import type { Caller, Sent, VerifyAnswer } from './verify-api.js';
import { type VerifyContext, type VerifyTest, outcomeOf, toldBy } from './verify-context.js';
import type { TestRecord } from './verify-record.js';
import { type ReadingRoute, bodyOf, pathOf } from './verify-routes.js';
import { QUESTION } from './verify-tenants.js';

type Ids = Readonly<Record<string, string>>;

/** The same asked twice: for what is somebody else's, and for what nobody has. */
interface Comparison {
  caller: Caller;
  route: ReadingRoute;
  /** What of it is foreign. */
  what: string;
  foreign: { id: string; ids: Ids; sent?: Sent };
  missing: { id: string; ids: Ids; sent?: Sent };
  /** What was asked for beside the two ids: an answer may repeat it. */
  hidden?: readonly string[];
  /** What both must be answered; null: whatever shows nothing. */
  statuses: readonly number[] | null;
}

const nothing = (parameter: string): string =>
  ['variable', 'role', 'tenant name'].includes(parameter)
    ? `no-such-${randomUUID().slice(0, 8)}`
    : randomUUID();

/** Routes that are about a tenant, or about somebody's own things; what is the platform's belongs to no tenant. */
const nonPlatformRoutes = ({ routes }: VerifyContext) =>
  routes.filter(({ permission, domain }) => permission !== null && domain !== 'platform');

/** T1: somebody else's id is answered like one that does not exist. */
export const foreignIds: VerifyTest = async (context, record) => {
  const comparisons = [
    ...(await acrossTenants(context, record)),
    ...belowOwnTenant(context),
    ...inBodies(context),
    ...inQueries(context),
    ...(await withinTenant(context)),
    ...belowOtherKb(context),
  ];
  await record.each(comparisons, comparison => compare(context, comparison, record));
  await ownLists(context, record);
};

async function acrossTenants(context: VerifyContext, record: TestRecord): Promise<Comparison[]> {
  const { world } = context;
  const { owner, viewer } = world.people.b;
  const everybody = [owner.caller, viewer.caller, await context.tokenOfB(null), world.people.stranger.caller];
  return nonPlatformRoutes(context).flatMap(route =>
    route.parameters.flatMap(parameter => {
      const own = world.a.ids[parameter];
      if (own === undefined) {
        record.leftOut.add(
          `Of the parameter {${parameter}} no foreign one was asked for: to make one would reach people outside, or there is none here.`,
        );
        return [];
      }
      const names = parameter === 'tenant' ? [own, world.a.name] : [own];
      return names.flatMap((id): Comparison[] => {
        const other = nothing(id === world.a.name ? 'tenant name' : parameter);
        const base = parameter === 'tenant' ? world.a.ids : world.b.ids;
        return everybody.map(caller => ({
          caller,
          route,
          what: parameter,
          foreign: { id, ids: { ...base, [parameter]: id } },
          missing: { id: other, ids: { ...base, [parameter]: other } },
          statuses: caller === owner.caller ? [404] : [401, 403, 404],
        }));
      });
    }),
  );
}

/**
 * Below one's own tenant everything is the other's, and fits together: whoever looked for it without asking for the tenant
 * would find it. One foreign id among one's own fits nothing, and is found by nobody.
 */
function belowOwnTenant(context: VerifyContext): Comparison[] {
  const { world } = context;
  const { owner, viewer } = world.people.b;
  return nonPlatformRoutes(context).flatMap(route => {
    const below = route.parameters.filter(parameter => parameter !== 'tenant');
    const isMixed = below.length >= 2 && below.length < route.parameters.length;
    if (!isMixed || below.some(parameter => world.a.ids[parameter] === undefined)) return [];
    const last = below.at(-1) as string;
    const theirs = { ...world.a.ids, tenant: world.b.id };
    return [owner, viewer].map(({ caller }): Comparison => ({
      caller,
      route,
      what: `${below.join(' and ')} below the own tenant`,
      ...pairOf(theirs, below, last),
      statuses: caller === owner.caller ? [404] : [403, 404],
    }));
  });
}

/** The same path twice: with these ids, and with ids that nobody has. What it is about is named last. */
function pairOf(
  ids: Ids,
  foreign: readonly string[],
  last: string,
): Pick<Comparison, 'foreign' | 'missing' | 'hidden'> {
  const nobodys = Object.fromEntries(foreign.map(parameter => [parameter, nothing(parameter)]));
  return {
    foreign: { id: ids[last] as string, ids },
    missing: { id: nobodys[last] as string, ids: { ...ids, ...nobodys } },
    hidden: foreign.flatMap(parameter => [ids[parameter] as string, nobodys[parameter] as string]),
  };
}

/** What may stand in the body of a question beside it. */
function inBodies(context: VerifyContext): Comparison[] {
  const { world } = context;
  const kinds: Array<
    [field: string, id: string | undefined, fields: (id: string) => Record<string, unknown>]
  > = [
    ['filter', world.a.ids['document'], id => ({ filter: { document_ids: [id] } })],
    ['session_id', world.a.ids['chat'], id => ({ session_id: id })],
    ['kbs', world.a.ids['kb'], id => ({ kbs: [id] })],
  ];
  const asking = nonPlatformRoutes(context).filter(
    ({ question, parameters }) => question && parameters.includes('tenant'),
  );
  return asking.flatMap(route =>
    kinds.flatMap(([field, id, fields]): Comparison[] => {
      // A field that there is not would be refused whatever stands in it.
      if (id === undefined || !route.fields.includes(field)) return [];
      const sent = (asked: string) => ({ body: bodyOf(route, QUESTION, fields(asked)) });
      const other = randomUUID();
      return [
        {
          caller: world.people.b.owner.caller,
          route,
          what: `${field} in the body`,
          foreign: { id, ids: world.b.ids, sent: sent(id) },
          missing: { id: other, ids: world.b.ids, sent: sent(other) },
          statuses: null,
        },
      ];
    }),
  );
}

/** What lists may be narrowed by. */
function inQueries(context: VerifyContext): Comparison[] {
  const { world } = context;
  const { ids } = world.a;
  const known = (name: string) => ids[name.replace(/_id$/, '')] ?? ids[name] ?? world.userId('owner-of-a');
  // Each export is an entry of the audit, and so of the next export.
  const lists = nonPlatformRoutes(context).filter(({ path }) => !path.endsWith('/export'));
  return lists.flatMap(route =>
    route.idQueries.map((name): Comparison => {
      const [id, other] = [known(name), randomUUID()];
      return {
        caller: world.people.b.owner.caller,
        route,
        what: `?${name}`,
        foreign: { id, ids: world.b.ids, sent: { query: { [name]: id } } },
        missing: { id: other, ids: world.b.ids, sent: { query: { [name]: other } } },
        statuses: null,
      };
    }),
  );
}

/** What is closed to a member of the same tenant. */
async function withinTenant(context: VerifyContext): Promise<Comparison[]> {
  const { world } = context;
  const { owner, viewer } = world.people.a;
  const restricted = world.documents.find(({ name }) => name === 'restricted');
  const path = `/tenants/${world.a.id}/kbs/${restricted?.kb}/graph/entities`;
  const { body } = await owner.caller.get(path, { search: restricted?.entity ?? '' });
  const closed: Record<string, string | undefined> = {
    kb: world.closedKb,
    document: restricted?.id,
    chat: world.a.ids['chat'],
    job: restricted?.id,
    entity: (body['items'] as Array<{ id: string }> | undefined)?.[0]?.id,
  };
  const inClosedKb = {
    ...world.a.ids,
    kb: world.closedKb,
    document: world.documents.find(({ name }) => name === 'closed')?.id as string,
  };
  // A document of the closed knowledge base under its own: under another one it is nobody's.
  const fitting = nonPlatformRoutes(context)
    .filter(({ parameters }) => parameters.includes('kb') && parameters.includes('document'))
    .map((route): Comparison => ({
      caller: viewer.caller,
      route,
      what: 'document of a knowledge base that is closed to this member',
      ...pairOf(inClosedKb, ['kb', 'document'], 'document'),
      statuses: [403, 404],
    }));
  const alone = nonPlatformRoutes(context).flatMap(route =>
    Object.entries(closed).flatMap(([parameter, id]): Comparison[] => {
      if (id === undefined || !route.parameters.includes(parameter)) return [];
      const other = randomUUID();
      return [
        {
          caller: viewer.caller,
          route,
          what: `${parameter} that is closed to this member`,
          foreign: { id, ids: { ...world.a.ids, [parameter]: id } },
          missing: { id: other, ids: { ...world.a.ids, [parameter]: other } },
          statuses: [403, 404],
        },
      ];
    }),
  );
  return [...alone, ...fitting];
}

/** What belongs to one knowledge base is not found below another one, of the same tenant, by whoever sees both. */
function belowOtherKb(context: VerifyContext): Comparison[] {
  const { world } = context;
  const ids: Ids = { ...world.a.ids, kb: world.closedKb };
  return nonPlatformRoutes(context).flatMap(route => {
    const below = route.parameters.slice(route.parameters.indexOf('kb') + 1);
    const isKnown = route.parameters.every(parameter => ids[parameter] !== undefined);
    if (!route.parameters.includes('kb') || below.length === 0 || !isKnown) return [];
    const last = below.at(-1) as string;
    const pair = pairOf(ids, below, last);
    const caller = world.people.a.owner.caller;
    return [{ caller, route, what: `${last}, below another knowledge base`, ...pair, statuses: [404] }];
  });
}

async function compare(
  context: VerifyContext,
  { caller, route, what, foreign, missing, hidden = [], statuses }: Comparison,
  record: TestRecord,
): Promise<void> {
  const ask = ({ ids, sent }: Comparison['foreign']) => askRoute(context, caller, route, ids, sent);
  const [theirs, nobodys] = [await ask(foreign), await ask(missing)];
  const same = toldBy(theirs, foreign.id, ...hidden) === toldBy(nobodys, missing.id, ...hidden);
  const refused = statuses === null ? theirs.status < 500 : statuses.includes(theirs.status);
  record.check(same && refused, () => ({
    where: route.key,
    who: `${caller.name}, foreign ${what}`,
    expected:
      refused || statuses === null
        ? `the answer for what does not exist: ${outcomeOf(nobodys)}`
        : statuses.join(' or '),
    got: same ? outcomeOf(theirs) : `another answer: ${outcomeOf(theirs)}`,
  }));
}

/** What one's own tenant shows is there, and has nothing of another in it. */
async function ownLists(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  const { owner, viewer } = world.people.b;
  const everybody = [owner.caller, viewer.caller, await context.tokenOfB(null)];
  const asked = nonPlatformRoutes(context).flatMap(route => everybody.map(caller => ({ route, caller })));
  await record.each(asked, async ({ route, caller }) => {
    const answer = await askRoute(context, caller, route, world.b.ids);
    // Were everything refused to everybody, nothing would have been shown by what is refused.
    const isOwn = caller === owner.caller && route.parameters.every(parameter => parameter in world.b.ids);
    if (isOwn)
      record.check(answer.status === 200, () => ({
        where: route.key,
        who: `${caller.name}, in the own tenant`,
        expected: '200',
        got: outcomeOf(answer),
      }));
    const found = secretsIn(context, answer);
    record.check(found.length === 0, () => ({
      where: route.key,
      who: `${caller.name}, in the own tenant`,
      expected: 'nothing of the other tenant',
      got: `of the other tenant: ${found.join(', ')}`,
    }));
  });
}

/** What of A an answer tells, in words; but for what was asked for: a problem repeats the address. */
export function secretsIn({ world }: VerifyContext, answer: VerifyAnswer): string[] {
  const told = toldBy(answer);
  const found = [...world.secrets].filter(([secret]) => told.includes(secret)).map(([, what]) => what);
  return [...new Set(found)];
}

/** Routes whose path names no tenant get it in the header, and those that ask the knowledge base with it. */
export function askRoute(
  { world }: VerifyContext,
  caller: Caller,
  route: ReadingRoute,
  ids: Ids,
  sent: Sent = {},
): Promise<VerifyAnswer> {
  const tenant = ids['tenant'] ?? world.b.id;
  const inHeader = !route.parameters.includes('tenant') && route.domain !== 'platform';
  return caller.send(route.method, pathOf(route, ids), {
    body: bodyOf(route, QUESTION),
    ...sent,
    headers: {
      ...(inHeader && { 'x-tenant-id': tenant }),
      ...(inHeader && route.question && ids['kb'] !== undefined && { 'x-kb-id': ids['kb'] }),
      ...sent.headers,
    },
  });
}
