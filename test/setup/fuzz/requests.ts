import fc from 'fast-check';
import { EXAMPLE_BODIES } from '../example-bodies.js';
import type { ApiDocument, Operation, Parameter } from './api-document.js';
import { mutated } from './mutations.js';
import { multipartBody } from './multipart.js';
import { HOSTILE_STRINGS, SchemaValues, hostileValue } from './values.js';

/** Who sends a request. */
export const CALLERS = [
  'nobody',
  'garbage',
  'admin',
  'owner',
  'editor',
  'viewer',
  'token',
  'stranger',
  'intruder',
  'doomed',
  'leaver',
] as const;
export type Caller = (typeof CALLERS)[number];

export interface FuzzedBody {
  /** Of the header; null: none is sent. */
  type: string | null;
  text: string;
  encoding: 'utf8' | 'latin1';
}

/** A request with placeholders, as its seed made it. */
export interface FuzzedRequest {
  operation: Operation;
  /** With its query. */
  path: string;
  headers: Record<string, string>;
  body: FuzzedBody | null;
  caller: Caller;
}

/** What ends or starves what it is about: tried on things that are there for it. */
const ENDS = [
  /^DELETE \/(?!auth)/,
  /\/(suspend|activate|leave)$/,
  /^PUT .*\/(quotas|features)$/,
  /^(PUT|PATCH) \/tenants\/:tenant$/,
  /^PATCH \/users\/:user$/,
];
/** What changes how its caller signs in. */
const OWN = /^(POST|PATCH|DELETE) \/auth\/(logout|sessions|change-password|me|switch-tenant)/;

const CALLERS_MOSTLY: Array<fc.MaybeWeightedArbitrary<Caller>> = [
  { weight: 8, arbitrary: fc.constant('admin') },
  { weight: 9, arbitrary: fc.constant('owner') },
  { weight: 2, arbitrary: fc.constant('editor') },
  { weight: 2, arbitrary: fc.constant('viewer') },
  { weight: 3, arbitrary: fc.constant('token') },
  { weight: 1, arbitrary: fc.constantFrom('nobody', 'garbage', 'stranger', 'intruder') },
];

/** In an example, names what would be there once: `{{new}}` takes its place. */
const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
const LONGEST_QUERY_VALUE = 2_000;

/** As many requests as are wanted, to every operation alike, in turns; the same for the same seed. */
export function fuzzedRequests(
  api: ApiDocument,
  operations: readonly Operation[],
  { count, seed }: { count: number; seed: number },
): FuzzedRequest[] {
  const values = new SchemaValues(api);
  const rounds = Math.ceil(count / operations.length);
  const lists = operations.map((operation, index) =>
    fc.sample(requestsTo(operation, values), { numRuns: rounds, seed: seed + index }),
  );
  const inTurns = Array.from({ length: rounds }, (_, round) =>
    lists.map(list => list[round] as FuzzedRequest),
  );
  return inTurns.flat().slice(0, count);
}

function requestsTo(operation: Operation, values: SchemaValues): fc.Arbitrary<FuzzedRequest> {
  const ends = ENDS.some(pattern => pattern.test(operation.key));
  const caller: fc.Arbitrary<Caller> = OWN.test(operation.key)
    ? fc.constantFrom('leaver', 'leaver', 'nobody', 'token')
    : ends
      ? fc.constantFrom('admin', 'doomed', 'doomed', 'viewer')
      : fc.oneof(...CALLERS_MOSTLY);
  return fc
    .record({
      path: pathOf(operation, ends ? 'spare' : 'main'),
      query: queryOf(operation, values),
      headers: headersOf(operation),
      body: bodyOf(operation, values),
      caller,
    })
    .map(({ path, query, headers, body, caller: who }) => ({
      operation,
      path: path + query,
      headers,
      body,
      caller: who,
    }));
}

const named = (parameters: readonly Parameter[], place: Parameter['in']): Parameter[] =>
  parameters.filter(parameter => parameter.in === place);

function pathOf(operation: Operation, tenant: 'main' | 'spare'): fc.Arbitrary<string> {
  const parameters = named(operation.parameters, 'path');
  const segment = (name: string): fc.Arbitrary<string> =>
    fc.oneof(
      // By what is there, as a rule: else everything ends with a 404.
      { weight: 30, arbitrary: fc.constant(`{{${tenant}.${name}}}`) },
      { weight: 1, arbitrary: fc.constantFrom(`{{other.${name}}}`, `{{main.${name}}}`) },
      { weight: 1, arbitrary: fc.uuid() },
      {
        weight: 1,
        arbitrary: fc.oneof(
          fc
            .constantFrom(...HOSTILE_STRINGS)
            .map(text => encodeURIComponent(text.toWellFormed()).slice(0, 900)),
          fc.constantFrom(
            '%zz',
            '%00',
            '%ff%fe',
            '%',
            '..%2f..%2fetc',
            '.',
            '%2e%2e',
            'a'.repeat(600),
            '*',
            ':id',
          ),
        ),
      },
    );
  return fc
    .tuple(...parameters.map(({ name }) => segment(name)))
    .map(segments =>
      parameters.reduce(
        (path, { name }, index) => path.replace(`{${name}}`, () => segments[index] as string),
        operation.path,
      ),
    );
}

function queryOf(operation: Operation, values: SchemaValues): fc.Arbitrary<string> {
  const parameters = named(operation.parameters, 'query');
  const pair = (parameter: Parameter): fc.Arbitrary<[string, unknown]> =>
    fc.tuple(
      fc.constant(parameter.name),
      fc.oneof(
        { weight: 8, arbitrary: values.of(parameter.schema ?? {}, parameter.name, 1) },
        { weight: 1, arbitrary: hostileValue },
      ),
    );
  const unknown = fc.tuple(
    fc.constantFrom(
      'tenant',
      'page',
      'page_size',
      'sort',
      'search',
      'unknown',
      'a[b]',
      'a[]',
      '',
      '__proto__',
      'kb',
    ),
    hostileValue,
  );
  const required = fc.tuple(...parameters.filter(one => one.required).map(pair));
  const optional = fc
    .subarray(
      parameters.filter(one => !one.required),
      { maxLength: Math.min(3, parameters.filter(one => !one.required).length) },
    )
    .chain(chosen => fc.tuple(...chosen.map(pair)));
  const odd = fc.oneof(
    { weight: 12, arbitrary: fc.constant([] as Array<[string, unknown]>) },
    { weight: 1, arbitrary: fc.array(unknown, { minLength: 1, maxLength: 2 }) },
  );
  const raw = fc.oneof(
    { weight: 40, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: fc.constantFrom('&&&', '%zz=1', 'a=%00', '=', 'page=1&page=2', 'x=%ff') },
  );
  return fc.tuple(required, optional, odd, raw).map(([must, may, more, text]) => {
    const pairs = [...must, ...may, ...more].map(
      ([name, value]) => `${encoded(name)}=${encoded(asText(value))}`,
    );
    const query = [...pairs, text].filter(part => part !== '').join('&');
    return query && `?${query}`;
  });
}

const asText = (value: unknown): string =>
  (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).slice(0, LONGEST_QUERY_VALUE);

/** Placeholders stay as they are. */
const encoded = (text: string): string =>
  encodeURIComponent(text.toWellFormed()).replace(/%7B%7B(\w+(?:\.\w+)?)%7D%7D/g, '{{$1}}');

const HEADERS: Record<string, fc.Arbitrary<string>> = {
  'if-match': fc.constantFrom('*', '"1"', 'W/"1"', '"1", "2"', '1', '""', '"'),
  'if-none-match': fc.constantFrom('*', '"1"', 'W/"x"', 'garbage'),
  'if-range': fc.constantFrom('"1"', 'Sun, 22 Nov 2026 00:00:00 GMT', 'garbage'),
  range: fc.constantFrom(
    'bytes=0-3',
    'bytes=-2',
    'bytes=5-',
    'bytes=9-1',
    'bytes=0-1,3-4',
    'bytes=99999999-',
    'lines=1',
    'bytes=',
  ),
  'last-event-id': fc.constantFrom('0', '1', 'end', '-1', '99999999999999999999', 'garbage'),
  'idempotency-key': fc.constantFrom('{{new}}', 'always-the-same', 'with space', 'x'.repeat(256), '"quoted"'),
  'x-tenant-id': fc.constantFrom(
    '{{main.tenant}}',
    '{{main.tenant}}',
    '{{other.tenant}}',
    'no-such-tenant',
    "'; --",
  ),
  'x-kb-id': fc.constantFrom('{{main.kb}}', '{{main.kb}}', '{{other.kb}}', 'no-such-kb'),
  accept: fc.constantFrom('*/*', 'text/html', 'application/xml', 'text/event-stream', ';;;'),
  'accept-encoding': fc.constantFrom('identity', 'gzip, br', '*;q=0'),
  'x-forwarded-host': fc.constantFrom('evil.example', '[::1]:1'),
  'x-request-id': fc.constantFrom('not-a-uuid', '00000000-0000-0000-0000-000000000000'),
  cookie: fc.constantFrom('tenant_id={{other.tenant}}', '=;=;'),
};

function headersOf(operation: Operation): fc.Arbitrary<Record<string, string>> {
  const documented = named(operation.parameters, 'header').map(({ name }) => name.toLowerCase());
  // A route without a tenant in its path may need one beside it.
  const likely = operation.path.includes('{tenant}') ? [] : ['x-tenant-id', 'x-kb-id'];
  const usual = [...new Set([...documented.filter(name => name !== 'idempotency-key'), ...likely])];
  const chosen = fc.tuple(
    fc.subarray(usual),
    fc.boolean(),
    fc.oneof(
      { weight: 6, arbitrary: fc.constant([] as string[]) },
      { weight: 1, arbitrary: fc.subarray(Object.keys(HEADERS), { minLength: 1, maxLength: 2 }) },
    ),
  );
  return chosen.chain(([some, takes, odd]) => {
    const names = [...new Set([...(takes ? some : []), ...odd])].filter(name => name in HEADERS);
    return fc.record(Object.fromEntries(names.map(name => [name, HEADERS[name] as fc.Arbitrary<string>])));
  });
}

const JSON_TYPES = fc.oneof(
  { weight: 40, arbitrary: fc.constant<string | null>('application/json') },
  {
    weight: 2,
    arbitrary: fc.constantFrom<string | null>(
      'application/json; charset=utf-8',
      'application/json; charset=latin1',
      'APPLICATION/JSON',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<string | null>(
      'text/plain',
      'application/xml',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'multipart/form-data',
      'application/merge-patch+json',
      'garbage',
      null,
    ),
  },
);

function bodyOf(operation: Operation, values: SchemaValues): fc.Arbitrary<FuzzedBody | null> {
  const multipart = operation.body['multipart/form-data'];
  const json = operation.body['application/json'];
  if (!multipart && !json) {
    if (operation.method === 'GET') return fc.constant(null);
    return fc.oneof(
      { weight: 12, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: jsonBody(hostileValue) },
    );
  }
  const example = EXAMPLE_BODIES[operation.key]?.();
  const choices: Array<fc.WeightedArbitrary<FuzzedBody | null>> = [];
  if (multipart) choices.push({ weight: 10, arbitrary: multipartBody(multipart, values) });
  if (json) {
    const made = values.of(json);
    const given =
      example && !(example instanceof FormData)
        ? fc.constant(JSON.parse(JSON.stringify(example).replace(UUID, '{{new}}')) as unknown)
        : made;
    const both = fc.tuple(given, made).map(([first, second]) => Object.assign({}, first, second) as unknown);
    choices.push({
      weight: 20,
      arbitrary: jsonBody(
        fc.oneof(
          { weight: 3, arbitrary: given },
          { weight: 2, arbitrary: both },
          { weight: 3, arbitrary: made },
        ),
      ),
    });
  } else choices.push({ weight: 1, arbitrary: jsonBody(hostileValue) });
  choices.push({ weight: 1, arbitrary: fc.constant(null) });
  return fc.oneof(...choices);
}

function jsonBody(value: fc.Arbitrary<unknown>): fc.Arbitrary<FuzzedBody> {
  return fc
    .record({ type: JSON_TYPES, content: mutated(value) })
    .map(({ type, content }) => ({ type, ...content }));
}
