import { BEYOND_SINGLE_KBS, type Permission } from '../../core/authorization/permissions.js';
import { randomSecret } from '../../foundation/crypto/opaque-token.js';
import type { FieldError } from '../../foundation/http/problem.js';

export const TOKEN_KINDS = ['live', 'test', 'publishable'] as const;
export type TokenKind = (typeof TOKEN_KINDS)[number];

const MARKS: Record<TokenKind, string> = { live: 'rk_live_', test: 'rk_test_', publishable: 'rk_pub_' };
const SECRET = /^rk_(live|test|pub)_[A-Za-z0-9_-]{43}$/;
/** Characters of a secret that it is looked up by; what stays secret has more than 200 bits of chance. */
const PREFIX_LENGTH = 16;

/** All that a publishable token may do: it stands in web pages for everybody to read. */
export const PUBLISHABLE_SCOPES: readonly Permission[] = ['query:run', 'chat:own'];

/** How far a token reaches. */
export interface TokenLimits {
  scopes: readonly string[];
  /** The only knowledge bases that it opens; null: all that its creator sees. */
  kbIds: readonly string[] | null;
  agentIds: readonly string[] | null;
  rateLimitPerMinute: number;
  /** Micro-credits a calendar month; null: no limit. */
  monthlyCreditBudget: number | null;
  expiresAt: Date | null;
}

/** What is stored of a secret. */
export interface StoredSecret {
  prefix: string;
  createdAt: Date;
  /** Null for the one that is good at present. */
  expiresAt: Date | null;
}

export interface ApiToken extends TokenLimits {
  id: string;
  name: string;
  kind: TokenKind;
  allowedOrigins: readonly string[];
  lastUsedAt: Date | null;
  /** Null where the account is gone, and with it what the token could do. */
  createdBy: string | null;
  isActive: boolean;
  createdAt: Date;
  updatedAt: Date;
  /** The newest first. */
  secrets: readonly StoredSecret[];
}

/** 32 random bytes behind a mark that says what they are, to people and to scanners of published code. */
export const newSecret = (kind: TokenKind): string => `${MARKS[kind]}${randomSecret()}`;

/** What the secret is looked up by; null for what has not the form of one. */
export const prefixOf = (secret: string): string | null =>
  SECRET.test(secret) ? secret.slice(0, PREFIX_LENGTH) : null;

export const isExpired = ({ expiresAt }: { expiresAt: Date | null }): boolean =>
  expiresAt !== null && expiresAt.getTime() <= Date.now();

/** Fields that do not go together, whoever asks. */
export function fieldErrors(
  token: TokenLimits & { kind: TokenKind; allowedOrigins: readonly string[] },
): FieldError[] {
  const publishable = token.kind === 'publishable';
  const rules: Array<[broken: boolean, path: string, code: string, message: string]> = [
    [isExpired(token), 'expires_at', 'in_the_past', 'must be in the future'],
    [
      publishable && token.allowedOrigins.length === 0,
      'allowed_origins',
      'required',
      'a publishable token names the web pages that it may stand in',
    ],
    [
      !publishable && token.allowedOrigins.length > 0,
      'allowed_origins',
      'not_publishable',
      'only publishable tokens are kept to web pages',
    ],
    [
      publishable && token.kbIds === null,
      'kb_ids',
      'required',
      'a publishable token names the knowledge bases that it asks',
    ],
    [
      publishable && !sameSet(token.scopes, PUBLISHABLE_SCOPES),
      'scopes',
      'not_publishable',
      `a publishable token may ${PUBLISHABLE_SCOPES.join(' and ')}, and that exactly`,
    ],
    [
      token.kbIds !== null && BEYOND_SINGLE_KBS.some(scope => token.scopes.includes(scope)),
      'scopes',
      'kept_to_kbs',
      `a token that is kept to some knowledge bases makes and hears of no others (${BEYOND_SINGLE_KBS.join(', ')})`,
    ],
  ];
  return rules.filter(([broken]) => broken).map(([, path, code, message]) => ({ path, code, message }));
}

/** The fields, as on the wire, in which `token` reaches further than `bound`. Scopes apart. */
export function fieldsAbove(token: TokenLimits, bound: TokenLimits): string[] {
  const beyond: Array<[field: string, further: boolean]> = [
    ['kb_ids', !isPart(token.kbIds, bound.kbIds)],
    ['agent_ids', !isPart(token.agentIds, bound.agentIds)],
    ['rate_limit_per_minute', token.rateLimitPerMinute > bound.rateLimitPerMinute],
    ['monthly_credit_budget', !isWithin(token.monthlyCreditBudget, bound.monthlyCreditBudget)],
    ['expires_at', !isWithin(token.expiresAt?.getTime() ?? null, bound.expiresAt?.getTime() ?? null)],
  ];
  return beyond.filter(([, further]) => further).map(([field]) => field);
}

type Widenable = TokenLimits & Pick<ApiToken, 'allowedOrigins' | 'isActive'>;

/** Whether a change lets whoever holds the token do more than before. */
export const widens = (before: Widenable, after: Widenable): boolean =>
  fieldsAbove(after, before).length > 0 ||
  after.allowedOrigins.some(origin => !before.allowedOrigins.includes(origin)) ||
  after.scopes.some(scope => !before.scopes.includes(scope)) ||
  (after.isActive && !before.isActive);

/** Null stands for all. */
const isPart = (part: readonly string[] | null, whole: readonly string[] | null): boolean =>
  whole === null || (part !== null && part.every(id => whole.includes(id)));

/** Null stands for no limit. */
const isWithin = (value: number | null, limit: number | null): boolean =>
  limit === null || (value !== null && value <= limit);

const sameSet = (a: readonly string[], b: readonly string[]): boolean =>
  new Set(a).size === new Set(b).size && a.every(item => b.includes(item));
