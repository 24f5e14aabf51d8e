import { Ajv, type ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';
import {
  type ApiDocument,
  type Operation,
  type ResponseObject,
  type Schema,
  resolve,
} from './api-document.js';

/** An answer as it came over the wire. */
export interface RawAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  /** Of a stream, what was read of it. */
  text: string;
}

/** What must not be so about an answer. */
export interface Fault {
  /** The property that does not hold. */
  property: string;
  detail: string;
}

/** Statuses that the HTTP parser gives before there is a route. */
const BEFORE_ROUTES = new Set([408, 431]);
const LARGE_HEADERS = 8_000;

/** What no answer may have in it. */
const LEAKS: Array<[what: string, pattern: RegExp]> = [
  ['a stack', /\n?\s+at (?:async )?[\w.<>[\] ]+ \((?:file:|node:|\/)[^)]*:\d+:\d+\)/],
  [
    'a path',
    /(?:file:\/\/\/|\/node_modules\/|(?:^|[\s"'(])\/(?:home|root|tmp|usr|var|opt|srv|app)\/[\w./-]+|\/dist\/src\/)/,
  ],
];
/** What no problem may have in it: the words of PostgreSQL and of what calls it. */
const PROBLEM_LEAKS: Array<[what: string, pattern: RegExp]> = [
  ['SQL', /\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM)\b[^.]*\b(?:FROM|SET|VALUES|WHERE)\b/],
  [
    'a message of the database',
    /violates|(?:relation|column|constraint|type|schema|role) "[^"]*" (?:does not exist|already exists|of relation)|(?:function|operator) [^ ]+ does not exist|duplicate key|syntax error at|QueryFailedError|row-level security|invalid input syntax|out of range for type|pg_|enclave_(?:tenant|platform|app)/i,
  ],
  [
    'a message of a library',
    /ENOENT|ECONNREFUSED|EACCES|TypeError|ZodError|Cannot read propert|undefined \(reading/,
  ],
];

/** Holds answers against what the OpenAPI document says of them. */
export class AnswerCheck {
  private readonly ajv = new Ajv({ strict: false, allErrors: false, unicodeRegExp: false, logger: false });
  private readonly validators = new Map<string, ValidateFunction>();

  /** @param secrets texts that no answer may have in it, with what they are */
  constructor(
    private readonly api: ApiDocument,
    private readonly secrets: ReadonlyMap<string, string> = new Map(),
  ) {
    (addFormats as unknown as (ajv: Ajv) => void)(this.ajv);
    const schemas = Object.entries(api.components.schemas).map(([name, schema]) => [
      name,
      jsonSchemaOf(schema),
    ]);
    this.ajv.addSchema({ $id: 'api', components: { schemas: Object.fromEntries(schemas) } });
  }

  /** @param sent everything of the request: what it says itself may come back */
  faultsOf(operation: Operation, answer: RawAnswer, sent: string): Fault[] {
    const faults: Fault[] = [];
    const say = (property: string, detail: string) => faults.push({ property, detail });
    const { status, text } = answer;
    const early = BEFORE_ROUTES.has(status) && sent.length > LARGE_HEADERS;
    const documented = operation.responses[status];
    // What every route may answer where something is away stands in the document, too; in a quiet run nothing is.
    if (status >= 500 && (!documented || documented.$ref))
      say('no server error', `${status}: ${text.slice(0, 500)}`);
    else if (!documented && !early) say('documented statuses only', `${status}: ${text.slice(0, 300)}`);
    else if (documented) this.compare(operation, status, resolve(this.api, documented), answer, say);
    if (status >= 400) problem(answer, say);
    if ((status === 503 || status === 429) && !answer.headers['retry-after'])
      say('Retry-After', String(status));
    const body = status === 204 || status === 304 ? text : '';
    if (body !== '') say('no body', `${status} with ${body.slice(0, 100)}`);
    const said = textsOf(text);
    for (const [what, pattern] of status >= 400 ? [...LEAKS, ...PROBLEM_LEAKS] : LEAKS) {
      const found = pattern.exec(said)?.[0];
      if (found && !sent.includes(found.trim())) say('nothing from inside', `${what}: ${found}`);
    }
    for (const [secret, what] of this.secrets) if (text.includes(secret)) say('nothing of others', what);
    return faults;
  }

  private compare(
    operation: Operation,
    status: number,
    response: ResponseObject,
    answer: RawAnswer,
    say: (property: string, detail: string) => void,
  ): void {
    const { text } = answer;
    const type = mediaType(answer);
    const types = Object.keys(response.content ?? {});
    if (types.length === 0) {
      if (text !== '') say('documented bodies only', `${status} with ${text.slice(0, 200)}`);
      return;
    }
    if (!types.includes(type)) {
      // A file has the type of what was uploaded.
      if (
        types.includes('*/*') ||
        (types.includes('application/octet-stream') && type !== 'application/json')
      )
        return;
      say('documented types only', `${status} is ${type || 'of no type'}, not ${types.join(' or ')}`);
      return;
    }
    if (!/\bjson$/.test(type)) return;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      say('JSON', `${status}: ${text.slice(0, 200)}`);
      return;
    }
    const schema = response.content?.[type]?.schema;
    if (!schema) return;
    const key = `${operation.key} ${status} ${type}`;
    const validate = this.validators.get(key) ?? this.ajv.compile(jsonSchemaOf(schema));
    this.validators.set(key, validate);
    if (validate(value)) return;
    const error = validate.errors?.[0];
    const what =
      error?.params && 'additionalProperty' in error.params ? ` ${error.params['additionalProperty']}` : '';
    say(
      'documented schema',
      `${status} ${error?.instancePath || '/'} ${error?.message}${what}: ${text.slice(0, 300)}`,
    );
  }
}

function problem(answer: RawAnswer, say: (property: string, detail: string) => void): void {
  const type = mediaType(answer);
  if (type !== 'application/problem+json') {
    say('problem documents', `${answer.status} is ${type || 'of no type'}: ${answer.text.slice(0, 200)}`);
    return;
  }
  const body = JSON.parse(answer.text) as Record<string, unknown>;
  const wrong = ['type', 'title', 'detail', 'instance', 'code', 'request_id'].filter(
    field => typeof body[field] !== 'string',
  );
  if (body['status'] !== answer.status) wrong.push('status');
  const id = answer.headers['x-request-id'];
  if (id !== undefined && body['request_id'] !== id) wrong.push('request_id');
  if (wrong.length > 0) say('problem documents', `${answer.status} with a wrong ${wrong.join(', ')}`);
}

/** Of JSON its strings, without the escapes in which a quote or a line break hides. */
function textsOf(text: string): string {
  try {
    return stringsIn(JSON.parse(text)).join('\n');
  } catch {
    return text;
  }
}

/** Every string in a value, at whatever depth; of objects without the names of their fields. */
export function stringsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(stringsIn) : [];
}

const mediaType = ({ headers }: RawAnswer): string =>
  String(headers['content-type'] ?? '')
    .split(';', 1)[0]!
    .trim()
    .toLowerCase();

/** OpenAPI's dialect as JSON Schema: `nullable` becomes a choice, references lead into the document. */
function jsonSchemaOf(schema: Schema): Record<string, unknown> {
  const { nullable, example: _example, ...rest } = schema as Schema & Record<string, unknown>;
  const converted: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(rest)) {
    if (key === '$ref') converted[key] = `api${value as string}`;
    else if (key === 'properties') {
      converted[key] = Object.fromEntries(
        Object.entries(value as Record<string, Schema>).map(([name, field]) => [name, jsonSchemaOf(field)]),
      );
    } else if (Array.isArray(value) && ['allOf', 'anyOf', 'oneOf'].includes(key))
      converted[key] = value.map(part => jsonSchemaOf(part as Schema));
    else if ((key === 'items' || key === 'additionalProperties') && typeof value === 'object')
      converted[key] = jsonSchemaOf(value as Schema);
    else if (key === 'exclusiveMinimum' || key === 'exclusiveMaximum') {
      // In OpenAPI 3.0 a word about the bound beside it.
      const bound = key === 'exclusiveMinimum' ? 'minimum' : 'maximum';
      if (value === true) {
        converted[key] = rest[bound];
        delete converted[bound];
      } else if (typeof value === 'number') converted[key] = value;
    } else converted[key] = value;
  }
  return nullable ? { anyOf: [converted, { type: 'null' }] } : converted;
}
