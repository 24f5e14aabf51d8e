import fc from 'fast-check';
import { type ApiDocument, type Schema, resolve } from './api-document.js';

/**
 * Stands in generated requests for what only a running installation knows, or for what must differ each time:
 * `{{main.kb}}` is an id, `{{new}}` a text that no request before had. Filled in when the request is sent, so that a seed
 * makes the same requests on every installation.
 */
export const PLACEHOLDER = /\{\{(\w+)(?:\.(\w+))?\}\}/g;

const TENANTS = ['main', 'main', 'main', 'main', 'main', 'main', 'main', 'other', 'spare'] as const;
const DEEPEST = 4;

/** Kinds of ids by the words in a field's name; the first that fits counts. */
const KINDS: Array<[RegExp, string]> = [
  [/document/, 'document'],
  [/user|member|owner/, 'user'],
  [/group/, 'group'],
  [/kb/, 'kb'],
  [/agent/, 'agent'],
  [/session|chat/, 'chat'],
  [/message/, 'message'],
  [/tenant|parent/, 'tenant'],
  [/model|^(asr|chat|embedding|image2text|rerank|tts)$/, 'model'],
];

/** Strings that have broken something somewhere. */
export const HOSTILE_STRINGS: readonly string[] = [
  '',
  ' ',
  'a\0b',
  'a\ud800b',
  '\udfff',
  '\u202Egnirts\u202C',
  '𝕏'.repeat(40),
  'é'.normalize('NFD').repeat(30),
  '\ufeff\u200b\u2028\u2029',
  '\r\nSet-Cookie: a=b',
  "' OR 1=1 --",
  "'; SELECT pg_sleep(9); --",
  '$1',
  '%',
  '_%\\',
  '& | ! ( <-> ) :*',
  '../../../../etc/passwd',
  '..\\..\\windows',
  '{{7*7}}${7*7}',
  '<script>alert(1)</script>',
  '__proto__',
  'constructor',
  'null',
  'NaN',
  '-0',
  '1e999',
  '99999999999999999999',
  '0x10',
  '2024-13-45T99:99:99Z',
  '0000-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999999999Z',
  '+275760-09-13T00:00:00.000Z',
  '00000000-0000-0000-0000-000000000000',
  'ffffffff-ffff-ffff-ffff-ffffffffffff',
  'http://[::1',
  'javascript:alert(1)',
  'a@b',
  `${'a'.repeat(64)}@${'b'.repeat(250)}.example`,
  'a'.repeat(300),
  'a '.repeat(6_000),
];

const deep = (levels: number): unknown => {
  let value: unknown = 'deep';
  for (let level = 0; level < levels; level++) value = level % 2 ? { a: value } : [value];
  return value;
};

/** What may stand in the place of any value. */
export const hostileValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...HOSTILE_STRINGS) },
  {
    weight: 3,
    arbitrary: fc.constantFrom<unknown>(
      null,
      true,
      0,
      -1,
      0.1,
      2 ** 31,
      -(2 ** 31) - 1,
      2 ** 53,
      1e21,
      1e308,
      -Number.MIN_VALUE,
      [],
      {},
      [null],
      [[[]]],
      { length: 1 },
      { $gt: '' },
      deep(8),
      deep(40),
      Array.from({ length: 600 }, (_, index) => index),
    ),
  },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 30 }) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
);

/** Makes values that a schema allows, mostly: what its patterns and refinements say beyond types is tried, not promised. */
export class SchemaValues {
  private readonly made = new Map<string, fc.Arbitrary<unknown>>();

  constructor(private readonly api: ApiDocument) {}

  /** @param name of the field, which says what an id names */
  of(schema: Schema, name = '', depth = 0): fc.Arbitrary<unknown> {
    const key = schema.$ref && `${schema.$ref} ${name} ${depth}`;
    if (!key) return this.make(schema, name, depth);
    const known = this.made.get(key);
    if (known) return known;
    const arbitrary = this.make(resolve(this.api, schema), name, depth);
    this.made.set(key, arbitrary);
    return arbitrary;
  }

  private make(schema: Schema, name: string, depth: number): fc.Arbitrary<unknown> {
    const plain = this.plain(schema, name, depth);
    const withExample =
      schema.example === undefined || depth === 0
        ? plain
        : fc.oneof({ weight: 3, arbitrary: plain }, { weight: 1, arbitrary: fc.constant(schema.example) });
    return schema.nullable
      ? fc.oneof({ weight: 4, arbitrary: withExample }, { weight: 1, arbitrary: fc.constant(null) })
      : withExample;
  }

  private plain(schema: Schema, name: string, depth: number): fc.Arbitrary<unknown> {
    if (schema.enum) return fc.constantFrom(...schema.enum);
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices) {
      if (depth > DEEPEST) return fc.constant('too deep for more');
      return fc.oneof(...choices.map(choice => this.of(choice, name, depth + 1)));
    }
    if (schema.allOf) return this.allOf(schema.allOf, name, depth);
    switch (schema.type) {
      case 'string':
        return this.text(schema, name);
      case 'integer':
        return fc.integer(bounds(schema, 1));
      case 'number':
        return numberOf(schema);
      case 'boolean':
        return fc.boolean();
      case 'array':
        return fc.array(this.of(schema.items ?? {}, name, depth + 1), {
          minLength: schema.minItems ?? 0,
          maxLength: Math.max(schema.minItems ?? 0, Math.min(schema.maxItems ?? 3, 3)),
        });
      case 'object':
        return this.object(schema, depth);
      default:
        return schema.properties ? this.object(schema, depth) : fc.jsonValue({ maxDepth: 2 });
    }
  }

  private allOf(parts: Schema[], name: string, depth: number): fc.Arbitrary<unknown> {
    if (parts.length === 1 && parts[0]) return this.of(parts[0], name, depth);
    return fc
      .tuple(...parts.map(part => this.of(part, name, depth)))
      .map(values => Object.assign({}, ...(values as object[])) as unknown);
  }

  private object(schema: Schema, depth: number): fc.Arbitrary<unknown> {
    if (depth > DEEPEST) return fc.constant({});
    const required = new Set(schema.required ?? []);
    const fields = Object.entries(schema.properties ?? {}).map(
      ([name, field]): [string, fc.Arbitrary<unknown>] => [name, this.of(field, name, depth + 1)],
    );
    const known = fc
      .record(Object.fromEntries(fields), {
        requiredKeys: fields.flatMap(([name]) => (required.has(name) ? [name] : [])),
      })
      // Of twenty fields that one may give, a request gives some.
      .chain(value => {
        const optional = Object.keys(value).filter(name => !required.has(name));
        return fc.subarray(optional, { maxLength: Math.min(optional.length, 4) }).map(kept => {
          const given = new Set(kept);
          return Object.fromEntries(
            Object.entries(value).filter(([field]) => required.has(field) || given.has(field)),
          );
        });
      });
    if (typeof schema.additionalProperties !== 'object') return known;
    const others = fc.dictionary(
      fc.oneof(fc.stringMatching(/^[a-z_]{1,12}$/), fc.string({ unit: 'grapheme', maxLength: 12 })),
      this.of(schema.additionalProperties, '', depth + 1),
      { maxKeys: 3, noNullPrototype: true },
    );
    return fc.tuple(known, others).map(([some, more]) => Object.assign({}, more, some) as unknown);
  }

  private text(schema: Schema, name: string): fc.Arbitrary<string> {
    switch (schema.format) {
      case 'uuid':
        return idFor(name);
      case 'date-time':
        return fc
          .date({ min: new Date('2020-01-01'), max: new Date('2035-01-01'), noInvalidDate: true })
          .map(date => date.toISOString());
      case 'date':
        return fc
          .date({ min: new Date('2020-01-01'), max: new Date('2035-01-01'), noInvalidDate: true })
          .map(date => date.toISOString().slice(0, 10));
      case 'email':
        return fc.constantFrom(
          '{{new}}@example.com',
          'Ada@Example.com',
          'ünï@example.com',
          'nobody@example.com',
        );
      case 'uri':
        return fc.constantFrom(
          'https://pages.invalid/{{new}}',
          'http://127.0.0.1:1/',
          'https://pages.invalid/ä?q=%00',
          'ftp://pages.invalid',
        );
    }
    const [shortest, longest] = [schema.minLength ?? 0, schema.maxLength ?? 40];
    const free = fc.string({
      unit: 'grapheme',
      minLength: Math.min(shortest, 100),
      maxLength: Math.max(Math.min(longest, 40), shortest),
    });
    const edge = fc.constant('x'.repeat(Math.min(longest, 3_000)));
    const word = fc.constantFrom('warranty', 'launch code', 'viewer', 'docs', '{{new}}', '{{main.kb}}');
    if (schema.pattern) {
      return fc.oneof(
        { weight: 4, arbitrary: fc.stringMatching(new RegExp(schema.pattern, 'u'), { maxLength: longest }) },
        { weight: 1, arbitrary: free },
      );
    }
    return fc.oneof(
      { weight: 3, arbitrary: word },
      { weight: 3, arbitrary: free },
      { weight: 1, arbitrary: edge },
    );
  }
}

/** An id of what a field of this name names, or one that names nothing. */
function idFor(name: string): fc.Arbitrary<string> {
  const kind = KINDS.find(([words]) => words.test(name))?.[1];
  if (!kind) return fc.uuid();
  return fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...TENANTS).map(tenant => `{{${tenant}.${kind}}}`) },
    { weight: 1, arbitrary: fc.uuid() },
  );
}

function bounds(schema: Schema, step: number): { min: number; max: number } {
  const above = schema.exclusiveMinimum === true ? step : 0;
  const below = schema.exclusiveMaximum === true ? step : 0;
  const min = Math.max(schema.minimum ?? -1_000_000, Number.MIN_SAFE_INTEGER) + above;
  const max = Math.min(schema.maximum ?? 1_000_000, Number.MAX_SAFE_INTEGER) - below;
  return { min, max: Math.max(min, max) };
}

function numberOf(schema: Schema): fc.Arbitrary<number> {
  const { min, max } = bounds(schema, 0);
  return fc.oneof(fc.constantFrom(min, max), fc.double({ min, max, noNaN: true, noDefaultInfinity: true }));
}
