import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AlertEvaluationService } from '../../src/features/notifications/alert-evaluation.service.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { type ApiDocument, type Operation, type Schema, operationsOf } from '../setup/fuzz/api-document.js';
import { stringsIn } from '../setup/fuzz/answers.js';
import { EACH_WITH_EACH, tried } from '../setup/isolation-cases.js';
import { rowsOfTenant } from '../setup/rows-of-tenant.js';
import { asSuperuser } from '../setup/superuser.js';
import { type FurnishedTenant, SECRET, each, furnishPair, leakOf } from './two-tenants.js';

/** What a payload that is executed sleeps; no request of these takes as long by itself. */
const SLEEP_S = 15;
/**
 * Ends quotes of every kind, a name's too, and a pattern: what writes it into a statement, wherever, has a syntax error there,
 * and that is a 500.
 */
const BREAKS_OUT = `x'"$$]})%_\\`;

let app: TestApplication;
let intruder: FurnishedTenant;
let victim: FurnishedTenant;
let api: ApiDocument;
let payloads: string[];

beforeAll(async () => {
  app = await startTestApplication();
  ({ intruder, victim } = await furnishPair(app));
  ({ body: api } = await app.anonymous.get('//openapi.json'));
  const pgSleep = `pg_sleep(${SLEEP_S})`;
  payloads = [
    `' OR '1'='1`,
    `'; SELECT ${pgSleep}; --`,
    `' || (SELECT ${pgSleep})::text || '`,
    `x' AND 1 = (SELECT 1 FROM ${pgSleep}) --`,
    `1; CREATE TABLE stolen (row text); --`,
    `'; COPY (SELECT 1) TO PROGRAM 'id'; --`,
    `'); SET ROLE enclave_platform; SET app.tenant_id = '${victim.ids['tenant']}'; --`,
    `' || set_config('app.tenant_id', '${victim.ids['tenant']}', false) || '`,
    `' UNION SELECT text FROM chunks --`,
    `" OR ""="`,
    `\\'; DROP TABLE documents; --`,
    `$1 $2 $$ :name ? %s %I`,
    `$$; SELECT ${pgSleep}; $$`,
    `/* ' */ OR 1=1 -- '`,
    `ʼ OR ʼ1ʼ=ʼ1 ＇ OR ＇1＇=＇1 ’`,
    `U&'\\0027' OR 1=1`,
    `E'\\x27' OR 1=1`,
    `a & !b | (c <-> d:*) ' \\`,
    `'a':* & !!((`,
    `$.** ? (@ == "x")`,
    `{"$gt": "", "$where": "sleep(9)"}`,
    `{a,NULL,"b`,
    `%`,
    `_%\\`,
    `created_at DESC; DROP TABLE users`,
    `(CASE WHEN 1=1 THEN id ELSE 1/0 END)`,
    `x\0'; --`,
  ];
});
afterAll(() => app?.close());

/** A place in a request that takes a string: of the path, the query, or the body, as dotted segments. */
interface Place {
  method: string;
  /** As the router writes it: `/tenants/:tenant`. */
  path: string;
  where: 'path' | 'query' | 'body' | 'form';
  name: string;
  /** Whether the document says that any text is good here. */
  free: boolean;
}

/** Becomes part of a condition: what is searched or filtered by, and what names something. */
const ASKS =
  /(^|\.)(query|message|search|filter|agent|model|kbs\.\[\]|external_id|source_id|metadata\.\{(key|value)\})(\.|$)/;
/** What is asked of no database: the models of a tenant, and which column of a table of results, by its number. */
const IN_MEMORY = new Set(['model', 'variants.[].model', 'variant']);
const asks = ({ where, name, free }: Place): boolean => free && (where === 'query' || ASKS.test(name));

/** In the order in which they are tried: what an attack changes, and models that nobody answers for, come after it. */
const ORDER: ReadonlyArray<[what: string, isOne: (place: Place) => boolean]> = [
  ['what is asked for', asks],
  ['a path', ({ where }) => where === 'path'],
  ['a query', ({ where }) => where === 'query'],
  ['a body', ({ path }) => !path.includes('model')],
  ['a body about models', () => true],
];

describe('SQL in a string of a request', () => {
  const reached = new Set<Place>();
  const refused = new Map<Place, string>();
  let places: Place[];
  let before: { catalogue: unknown; rows: unknown };
  beforeAll(async () => {
    places = placesOf();
    before = { catalogue: await catalogue(), rows: await rowsOfVictim() };
  });

  it.each(ORDER)('is a text like any other: %s', async what => {
    const mine = places.filter(place => ORDER.find(([, isOne]) => isOne(place))?.[0] === what);
    expect(mine.length).toBeGreaterThan(0);
    const findings: string[] = [];
    await each(mine, async place => {
      for (const payload of payloadsFor(place, places.indexOf(place))) {
        let [started, answer] = [Date.now(), await attack(place, payload)];
        // A few at a time: the next one has room when one of them has ended.
        while (answer.body?.code === 'too_many_evaluations') {
          await sleep(100);
          [started, answer] = [Date.now(), await attack(place, payload)];
        }
        tried();
        const where = `${place.method} ${place.path} ${place.where} ${place.name} ${JSON.stringify(payload)}`;
        // What names something that is not there was looked for.
        if (answer.status < 400 || (answer.status === 404 && asks(place))) reached.add(place);
        else refused.set(place, `${where}: ${answer.status} ${JSON.stringify(answer.body)}`);
        const leak = leakOf({ ...answer, body: withoutEcho(answer.body, payload) });
        if (leak) findings.push(`${where}: ${leak}`);
        if (Date.now() - started >= SLEEP_S * 1000) findings.push(`${where}: slept`);
        if (JSON.stringify(answer.body ?? '').includes(SECRET)) findings.push(`${where}: the victim’s text`);
      }
    });
    expect(findings).toEqual([]);
  });

  it('was tried in every place that takes a string, and has changed nothing', async () => {
    expect(places.length).toBeGreaterThan(700);
    // Else everything was refused on the way, and nothing of this was about SQL.
    expect(reached.size, 'places that took a payload').toBeGreaterThan(150);
    const notReached = places.filter(
      place => asks(place) && !IN_MEMORY.has(place.name) && !reached.has(place),
    );
    expect(notReached.map(place => refused.get(place))).toEqual([]);
    expect(await catalogue()).toEqual(before.catalogue);
    expect(await rowsOfVictim()).toEqual(before.rows);
    tried();
  });

  it('does nothing later either, where it was stored', async () => {
    const findings: string[] = [];
    const reads = operations().filter(({ method, path }) => method === 'GET' && !/:session|:job/.test(path));
    const after = await catalogue();
    await each(reads, async ({ path }) => {
      const answer = await clientFor(path).get(fill(path));
      tried();
      const leak = leakOf(answer);
      if (leak) findings.push(`${path}: ${leak}`);
      // What is named by an id may have been deleted on its own route.
      if (path.startsWith('/tenants/:tenant') && path.split(':').length === 2 && answer.status !== 200)
        findings.push(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    });
    expect(findings).toEqual([]);
    expect(await catalogue()).toEqual(after);
  });
});

describe('wildcards in a search', () => {
  it.each(['%', '_', '%%', '\\', 'a%', '%_%', '*', '.*'])('%s stands for itself', async pattern => {
    // Of a tenant that has none of these characters in anything.
    const lists = operations().filter(
      ({ method, path, parameters }) =>
        method === 'GET' &&
        path.startsWith('/tenants/:tenant/') &&
        parameters.some(parameter => parameter.name === 'search'),
    );
    expect(lists.length).toBeGreaterThan(8);
    await each(lists, async ({ path }) => {
      const answer = await victim.owner.get(`${fill(path, victim)}?search=${encodeURIComponent(pattern)}`);
      tried();
      expect(answer.status, path).toBe(200);
      // In values: names of fields have such characters themselves.
      for (const item of itemsOf(answer))
        expect([path, stringsIn(item).filter(text => text.includes(pattern))]).not.toEqual([path, []]);
    });
  });

  it.each(['%', '_', '\\'])('%s is found where it stands', async sign => {
    const name = `a${sign}b`;
    const { body: kb } = await expectStatus(201, victim.owner.post('/tenants/victim/kbs', { name }));
    const search = encodeURIComponent(`a${sign}`);
    const { body } = await expectStatus(200, victim.owner.get(`/tenants/victim/kbs?search=${search}`));
    tried();
    expect(body.items.map((found: { name: string }) => found.name)).toEqual([name]);
    await expectStatus(204, victim.owner.delete(`/tenants/victim/kbs/${kb.id}`));
  });
});

/** Of a list, or of an export that has one a line, and a line about itself at the end. */
const itemsOf = ({ body }: Answer): unknown[] =>
  body.items ??
  (typeof body === 'string' ? body : JSON.stringify(body))
    .split('\n')
    .filter((line: string) => line !== '' && !line.startsWith('{"audit_export"'))
    .map((line: string) => JSON.parse(line));

describe('a column to sort by', () => {
  it('is one of those that the document names, whatever stands behind it', async () => {
    const lists = operations().filter(({ parameters }) => parameters.some(({ name }) => name === 'sort'));
    expect(lists.length).toBeGreaterThan(15);
    await each(lists, async ({ path, parameters }) => {
      const { enum: words, anyOf } = parameters.find(({ name }) => name === 'sort')?.schema ?? {};
      const good = [...(words ?? []), ...(anyOf ?? []).flatMap(one => one.enum ?? [])][0] as string;
      for (const sort of [
        `${good} DESC`,
        `${good},(SELECT 1)`,
        `${good};--`,
        `--${good}`,
        `"${good}"`,
        '1',
        'tenant_id',
        'password_hash',
        'constructor',
        '__proto__',
      ]) {
        const answer = await clientFor(path).get(`${fill(path)}?sort=${encodeURIComponent(sort)}`);
        tried();
        expect([path, sort, answer.status]).toEqual([path, sort, 422]);
      }
    });
  });
});

function payloadsFor(place: Place, index: number): string[] {
  const asking = asks(place) && isCheap(place);
  if (asking && place.where === 'body' && place.path.endsWith('/search')) return [BREAKS_OUT, ...payloads];
  const count = EACH_WITH_EACH ? (asking ? 6 : place.free ? 2 : 1) : Number(asking);
  // All of them come up somewhere; the first is tried everywhere.
  const some = Array.from({ length: count }, (_, step) => payloads[(index * 5 + step) % payloads.length]);
  return [BREAKS_OUT, ...(some as string[])];
}

/** Nothing that goes on working, or makes more of itself, afterwards. */
const isCheap = ({ path, where }: Place): boolean => where === 'query' || /\/(search|query|chat)$/.test(path);

function attack(place: Place, payload: string): Promise<Answer> {
  const { method, path, where, name } = place;
  const client = clientFor(path);
  const example = EXAMPLE_BODIES[`${method} ${path}`]?.();
  if (where === 'path') {
    const { owner, ids } = intruder;
    const target = path.replace(/:(\w+)/g, (_, parameter: string) =>
      encodeURIComponent(parameter === name ? payload : (ids[parameter] ?? 'missing')),
    );
    return (client === owner ? owner : client).send(method, target, example);
  }
  if (where === 'query') {
    return client.send(method, `${fill(path)}?${name}=${encodeURIComponent(payload)}`, example);
  }
  if (where === 'form') return client.send(method, fill(path), formWith(example as FormData, name, payload));
  return client.send(method, fill(path), withValue(example ?? {}, name.split('.'), payload));
}

/** The platform's routes are tried by its admin, so that they do not end at a 403. */
const clientFor = (path: string) =>
  /^\/(platform|users|prices|plans|analytics|audit|tenant-templates)|^\/tenants$|\/(credits|quotas)$/.test(
    path,
  )
    ? app.admin
    : /^\/(chat|upload|messages)/.test(path)
      ? intruder.owner.withHeaders({
          'x-tenant-id': intruder.ids['tenant'] as string,
          'x-kb-id': intruder.ids['kb'] as string,
        })
      : intruder.owner;

const fill = (path: string, { ids }: FurnishedTenant = intruder): string =>
  path.replace(/:(\w+)/g, (_, parameter: string) => encodeURIComponent(ids[parameter] ?? 'missing'));

/** With a value at a place of a schema: `a.[].{key}`, where what is not there yet is made. */
function withValue(root: any, segments: readonly string[], value: string): any {
  const [segment, ...rest] = segments as [string, ...string[]];
  if (segment === '{key}') return { ...root, [value]: rest.length > 0 ? {} : 'a value' };
  if (segment === '[]') {
    const items = Array.isArray(root) ? root : [];
    return [rest.length === 0 ? value : withValue(items[0] ?? {}, rest, value), ...items.slice(1)];
  }
  const name = segment === '{value}' ? 'name' : segment;
  return { ...root, [name]: rest.length === 0 ? value : withValue(root?.[name] ?? {}, rest, value) };
}

function formWith(example: FormData, name: string, value: string): FormData {
  const form = new FormData();
  if (name !== 'file name') form.append(name, value);
  for (const [field, content] of example.entries()) {
    if (typeof content === 'string') form.append(field, content);
    else form.append(field, content, name === 'file name' ? value : content.name);
  }
  return form;
}

/** With their paths as the router writes them. */
const operations = (): Operation[] =>
  operationsOf(api).map(operation => ({ ...operation, path: operation.key.split(' ')[1] as string }));

function placesOf(): Place[] {
  const found: Place[] = [];
  for (const { method, path, parameters, body } of operations()) {
    for (const { in: where, name, schema } of parameters) {
      if (where === 'path') found.push({ method, path, where, name, free: false });
      if (where === 'query' && !['integer', 'number', 'boolean'].includes(schema?.type ?? ''))
        found.push({ method, path, where, name, free: schema?.type === 'string' && isFree(schema) });
    }
    const example = EXAMPLE_BODIES[`${method} ${path}`]?.();
    for (const [type, schema] of Object.entries(body)) {
      const isForm = type.startsWith('multipart/');
      if (isForm !== example instanceof FormData) continue;
      const strings = new Map<string, boolean>();
      stringsOf(api, schema, [], [], strings);
      for (const [name, free] of strings) {
        const top = name.split('.')[0] as string;
        if (!isForm) found.push({ method, path, where: 'body', name, free });
        else if (top !== 'file') found.push({ method, path, where: 'form', name: top, free: true });
      }
      if (isForm) found.push({ method, path, where: 'form', name: 'file name', free: true });
    }
  }
  return found;
}

const isFree = ({ format, enum: words, pattern }: Schema): boolean => !format && !words && !pattern;

function stringsOf(
  document: any,
  given: any,
  at: string[],
  above: string[],
  found: Map<string, boolean>,
): void {
  let schema = given;
  let seen = above;
  if (schema?.$ref) {
    if (above.includes(schema.$ref)) return;
    seen = [...above, schema.$ref];
    schema = document.components.schemas[schema.$ref.split('/').at(-1)];
  }
  if (typeof schema !== 'object' || schema === null) return;
  if ([schema.type].flat().includes('string') && at.length > 0) {
    const name = at.join('.');
    found.set(name, (found.get(name) ?? false) || isFree(schema));
  }
  for (const [name, field] of Object.entries(schema.properties ?? {}))
    stringsOf(document, field, [...at, name], seen, found);
  if (typeof schema.additionalProperties === 'object') {
    found.set([...at, '{key}'].join('.'), true);
    stringsOf(document, schema.additionalProperties, [...at, '{value}'], seen, found);
  }
  if (schema.items) stringsOf(document, schema.items, [...at, '[]'], seen, found);
  for (const one of [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])])
    stringsOf(document, one, at, seen, found);
}

/** What a refusal quotes of what was sent says nothing. */
function withoutEcho(body: unknown, payload: string): unknown {
  const quoted = JSON.stringify(payload).slice(1, -1);
  return typeof body === 'object' && body !== null
    ? JSON.parse(JSON.stringify(body).replaceAll(quoted, ''))
    : body;
}

const dataSource = () => app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });

/** Tables, columns, policies, functions, indexes, roles and their privileges. */
function catalogue(): Promise<unknown> {
  return asSuperuser(app.env, dataSource(), async client => {
    const { rows } = await client.query(`
      SELECT (SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM
               (SELECT relname, relkind, relacl, relrowsecurity, relforcerowsecurity, relowner FROM pg_class
                WHERE relnamespace = 'public'::regnamespace OR relpersistence = 't') t) AS tables,
             (SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM
               (SELECT attrelid, attname, atttypid, attacl FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                WHERE c.relnamespace = 'public'::regnamespace) t) AS columns,
             (SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM
               (SELECT proname, proacl, md5(prosrc), prosecdef FROM pg_proc) t) AS functions,
             (SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM (SELECT * FROM pg_policies) t) AS policies,
             (SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM (SELECT nspname, nspacl FROM pg_namespace
               WHERE nspname !~ '^pg_(toast_)?temp') t) AS schemas,
             (SELECT count(*) FROM pg_largeobject_metadata) AS "largeObjects"`);
    return rows;
  });
}

/** But for what goes on by itself: work that waits for its turn, and what is counted of it. */
async function rowsOfVictim(): Promise<unknown> {
  // Every minute by itself, which may come in between.
  await app.application.nest
    .get(AlertEvaluationService, { strict: false })
    .evaluateAll(new AbortController().signal);
  const rows = await rowsOfTenant(app, victim.ids['tenant'] as string);
  return Object.entries(rows).filter(([table]) => !/^(usage_|jobs$|events$|webhook_deliveries$)/.test(table));
}

// The helper that the expectations above rest on.
it('makes a place where an example has none', () => {
  expect(withValue({ a: 1 }, ['b', '[]', 'c', '{value}'], 'x')).toEqual({ a: 1, b: [{ c: { name: 'x' } }] });
  expect(withValue({ b: [{ d: 2 }] }, ['b', '[]', '{key}'], 'x')).toEqual({ b: [{ d: 2, x: 'a value' }] });
  expect(withValue({}, ['b', '[]'], 'x')).toEqual({ b: ['x'] });
});
