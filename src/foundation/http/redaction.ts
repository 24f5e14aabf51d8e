/** What stands in the place of a secret. */
export const HIDDEN = '[hidden]';

/** Fields and headers that hold secrets, wherever they stand. */
export const SECRET_NAMES = [
  'authorization',
  'proxy-authorization',
  'x-api-key',
  'x-goog-api-key',
  'api-key',
  'cookie',
  'set-cookie',
  'password',
  'new_password',
  'current_password',
  'password_hash',
  'passwordHash',
  'refresh_token',
  'refreshToken',
  'access_token',
  'accessToken',
  'api_key',
  'apiKey',
  'secret',
  'client_secret',
  'token',
];

/** Shorter ones would hide words of which they are a part. */
const SHORTEST_KNOWN = 6;

/** Texts that are secrets by their form. Each begins with something that few texts have, so that looking costs little. */
const FORMS = [
  // Access tokens (RFC 7519).
  '(?<![\\w-])eyJ[\\w-]{8,}\\.[\\w-]+\\.[\\w-]*',
  // API tokens and secrets of webhooks.
  'rk_(?:live|test|pub)_[\\w-]+',
  'whsec_[\\w+/=-]+',
  // Keys of providers.
  '\\bsk-[\\w-]{8,}',
  '\\bAIza[\\w-]{20,}',
  '\\$argon2[^\\s"]+',
  '\\b(?:[Bb]earer|[Bb]asic) +[\\w.~+/=-]{8,}',
  // The password in an address.
  '(?<=://[^\\s/:@"\\\\]{0,100}:)[^\\s/@"\\\\]+(?=@)',
  // Values of fields in JSON, and in JSON that is a text in JSON itself; of queries.
  `(?<=(?<!\\\\)"(?:${SECRET_NAMES.join('|')})":\\s{0,3}")(?:[^"\\\\]|\\\\.)+`,
  `(?<=\\\\"(?:${SECRET_NAMES.join('|')})\\\\":\\s{0,3}\\\\")(?:[^"\\\\]|\\\\[^"])+`,
  `(?<=[?&](?:${SECRET_NAMES.join('|')}|key|sig|signature)=)[^&\\s"\\\\]+`,
  // What this installation draws itself: refresh tokens, invitations, password tokens, and with a few letters too many.
  '(?<![\\w-])[\\w-]{43,50}(?![\\w-])',
];

/**
 * Takes secrets out of a line of the log: the last net, for what a library or a server says in an error.
 *
 * @param known secrets that must not stand in any line, whatever their form
 */
export function redactor(known: readonly string[]): (line: string) => string {
  const literal = known
    .filter(secret => secret.length >= SHORTEST_KNOWN)
    // As JSON has them too.
    .flatMap(secret => [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)])
    .toSorted((a, b) => b.length - a.length)
    .map(secret => secret.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
  const secrets = new RegExp([...new Set(literal), ...FORMS].join('|'), 'g');
  return line => line.replace(secrets, HIDDEN);
}

/** What is told of an error. */
interface ToldError {
  type: string;
  message: string;
  stack?: string;
  [field: string]: unknown;
}

/** What tells where and why, and nothing of anybody's data. */
const TOLD = ['code', 'status', 'statusCode', 'severity', 'schema', 'table', 'constraint', 'routine'];
const DEEPEST_CAUSE = 5;
const LONGEST_QUERY = 1_000;

/**
 * An error as the log has it. Of a failed statement neither the values that it was about nor the detail in which the
 * database repeats them: they are texts, addresses and hashes of tenants.
 */
export function toldError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return error;
  const fields = error as unknown as Record<string, unknown>;
  const told: ToldError = { type: error.constructor.name, message: error.message, stack: error.stack };
  for (const name of TOLD) if (isPlain(fields[name])) told[name] = fields[name];
  if (typeof fields['query'] === 'string') told['query'] = fields['query'].slice(0, LONGEST_QUERY);
  if (depth >= DEEPEST_CAUSE) return told;
  const cause = error.cause ?? fields['driverError'];
  if (cause instanceof Error && cause !== error) told['cause'] = toldError(cause, depth + 1);
  if (Array.isArray(fields['errors'])) {
    told['errors'] = fields['errors'].slice(0, 10).map(one => toldError(one, depth + 1));
  }
  return told;
}

const isPlain = (value: unknown): boolean => typeof value === 'string' || typeof value === 'number';
