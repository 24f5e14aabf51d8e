import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import ipaddr from 'ipaddr.js';
import { z } from 'zod';

/** An OpenAI-compatible endpoint: everything before `/embeddings` or `/chat/completions`. */
export interface ModelEndpoint {
  baseUrl: string;
  apiKey: string;
  model: string;
}

/** Where the rows live: PGlite in the data folder, or a PostgreSQL server. */
export type DatabaseSettings =
  | { mode: 'embedded' }
  | {
      mode: 'server';
      /** Connection of the running role, which owns nothing. Null: derived from the admin connection. */
      url: string | null;
      /** Connection that may create roles and tables; needed by migrations only. */
      adminUrl: string | null;
      migrateOnStart: boolean;
      poolSize: number;
    };

/** An S3-compatible bucket. */
export interface S3Settings {
  /** Null: Amazon's own for the region. */
  endpoint: string | null;
  region: string;
  bucket: string;
  /** Null: from the surroundings, as the AWS SDK finds them. */
  credentials: { accessKeyId: string; secretAccessKey: string } | null;
  /** The bucket in the path, not in the name of the host, as most servers but Amazon's want it. */
  forcePathStyle: boolean;
}

/** A host that is named by the settings. */
export interface HostAndPort {
  /** As `URL.hostname` writes it. */
  host: string;
  /** Null: any. */
  port: number | null;
}

/** Every setting of the installation, typed and checked once; nothing else reads `process.env`. */
export interface Env {
  production: boolean;
  host: string;
  port: number;
  /** Absolute path of the folder with the embedded database, generated secrets and original files. */
  dataDir: string;
  database: DatabaseSettings;
  redisUrl: string | null;
  /** `in`: this process also works on jobs; `external`: separate `npm run worker` processes do. */
  worker: 'in' | 'external';
  /** How many documents one process ingests at a time. */
  workerConcurrency: number;
  /** Null where none is set: outside production they are generated once into the data folder. */
  jwtSecret: string | null;
  encryptionKey: string | null;
  /** Keys that sealed what still stands; see {@link Env.encryptionKey}. */
  oldEncryptionKeys: string[];
  platformAdmin: { email: string; password: string | null };
  embedding: ModelEndpoint | null;
  /** Absolute path of a folder with an embedding model in ONNX format, instead of an endpoint. */
  embeddingFolder: string | null;
  llm: ModelEndpoint | null;
  /** Reads pictures, such as scanned pages. */
  vision: ModelEndpoint | null;
  /** Writes down what is said in audio and video. */
  transcription: ModelEndpoint | null;
  /** A Docling service that reads what it can instead of the parsers of this process. */
  docling: { url: string; apiKey: string | null } | null;
  /** What one file may take to be read: milliseconds of work, and megabytes of JavaScript heap. */
  parsing: { timeLimit: number; heapMb: number };
  /** How web pages are fetched. */
  web: { respectRobots: boolean; userAgent: string; timeout: number };
  /** An S3-compatible bucket for original files. Null: a folder in `dataDir`. */
  s3: S3Settings | null;
  /** Where people reach this installation: the beginning of links in e-mails. Null: the address it listens on. */
  publicUrl: string | null;
  mail: {
    /** Null: written into the data folder. */
    smtpUrl: string | null;
    from: string;
  };
  /** Whether every user may make tenants, and how many. */
  selfService: { enabled: boolean; maxTenants: number };
  /** Whether anybody may make an account. Else accounts are made by invitation, import or the platform's admins. */
  selfRegistration: boolean;
  /** The platform's own defaults of feature flags; checked against their declarations where those stand. */
  features: Record<string, unknown>;
  /** Seconds. */
  accessTokenTtl: number;
  /** Seconds. */
  refreshTokenTtl: number;
  /** Public sign-in routes: attempts a minute for one address. */
  authRateLimit: number;
  /** Requests a minute: of one member, and of one address on public routes. */
  rateLimits: { perMember: number; perAddress: number };
  /** Days that single usage events are kept; what is rolled up of them stays. */
  usageRetentionDays: number;
  /** The plan of tenants that are made without one. */
  defaultPlanTier: 'free' | 'starter' | 'pro' | 'enterprise';
  /** Bytes. */
  maxUploadBytes: number;
  /** Chunks from which a knowledge base gets an approximate index of its own. */
  largeKbChunks: number;
  /** Bytes. */
  maxJsonBytes: number;
  /** Milliseconds after which a request that has not been answered is ended with 503. */
  requestTimeout: number;
  /** How many Casbin domains are held in memory. */
  authorizationCacheSize: number;
  corsOrigins: string[];
  /** Hosts that tenants' addresses may name although they are not public. */
  outboundAllowedHosts: HostAndPort[];
  /** How many proxies stand in front, or their addresses and networks; false: none. */
  trustProxy: false | number | string[];
  /** Connections that one process holds at a time: in all, and of one address. */
  connections: { most: number; perAddress: number };
  /** Whether the API document and the page to read it are served. */
  apiDocs: boolean;
  logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
  logFormat: 'json' | 'pretty';
}

/** A setting that is missing or wrong. The message says which one and how to mend it. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

const integer = (fallback: number, min: number, max: number) =>
  z.coerce
    .number(`must be a whole number from ${min} to ${max}`)
    .int(`must be a whole number from ${min} to ${max}`)
    .min(min, `must be a whole number from ${min} to ${max}`)
    .max(max, `must be a whole number from ${min} to ${max}`)
    .default(fallback);

const flag = z
  .enum(['true', 'false', '1', '0'], 'must be true or false')
  .transform(value => value === 'true' || value === '1');

const urlOf = (...protocols: string[]) =>
  z
    .string()
    .refine(
      value => URL.canParse(value) && protocols.includes(new URL(value).protocol),
      `must be an address that starts with ${protocols.map(protocol => `${protocol}//`).join(' or ')}`,
    );

/** An address, a network, or one of the names that the parser of `X-Forwarded-For` knows. */
const isProxy = (address: string): boolean =>
  ['loopback', 'linklocal', 'uniquelocal'].includes(address) ||
  isIP(address) !== 0 ||
  (isIP(address.split('/', 1)[0] as string) !== 0 && ipaddr.isValidCIDR(address));

/** The caller's address is the last one that a proxy of ours has written; what stands before it anybody may have. */
const proxies = z
  .string()
  .default('false')
  .transform((text, context): false | number | string[] => {
    if (text === 'false' || text === '0') return false;
    if (text === 'true') return 1;
    if (/^\d{1,2}$/.test(text)) return Number(text);
    const addresses = listOf(text);
    if (addresses.length > 0 && addresses.every(isProxy)) return addresses;
    context.addIssue(
      'must be true or false, how many proxies there are, or their addresses: 10.0.0.0/8,192.0.2.7',
    );
    return z.NEVER;
  });

const secret = z.string().min(32, 'must have at least 32 characters; make one with: openssl rand -hex 32');

const schema = z.object({
  NODE_ENV: z.string().optional(),
  HOST: z.string().default('127.0.0.1'),
  PORT: integer(3000, 0, 65_535),
  DATA_DIR: z.string().default('data'),
  DATABASE_URL: urlOf('postgres:', 'postgresql:').optional(),
  DATABASE_ADMIN_URL: urlOf('postgres:', 'postgresql:').optional(),
  DATABASE_POOL_SIZE: integer(10, 1, 500),
  MIGRATE_ON_START: flag.optional(),
  REDIS_URL: urlOf('redis:', 'rediss:').optional(),
  WORKER: z.enum(['in', 'external'], 'must be in or external').default('in'),
  WORKER_CONCURRENCY: integer(2, 1, 64),
  JWT_SECRET: secret.optional(),
  ENCRYPTION_KEY: secret.optional(),
  ENCRYPTION_OLD_KEYS: z.string().default(''),
  PLATFORM_ADMIN_EMAIL: z.email('must be an e-mail address').default('admin@enclave.local'),
  PLATFORM_ADMIN_PASSWORD: z.string().min(12, 'must have at least 12 characters').max(256).optional(),
  EMBEDDING_BASE_URL: urlOf('http:', 'https:').optional(),
  EMBEDDING_API_KEY: z.string().optional(),
  EMBEDDING_MODEL: z.string().optional(),
  EMBEDDING_ONNX_PATH: z.string().optional(),
  LLM_BASE_URL: urlOf('http:', 'https:').optional(),
  LLM_API_KEY: z.string().optional(),
  LLM_MODEL: z.string().optional(),
  VISION_BASE_URL: urlOf('http:', 'https:').optional(),
  VISION_API_KEY: z.string().optional(),
  VISION_MODEL: z.string().optional(),
  TRANSCRIPTION_BASE_URL: urlOf('http:', 'https:').optional(),
  TRANSCRIPTION_API_KEY: z.string().optional(),
  TRANSCRIPTION_MODEL: z.string().optional(),
  DOCLING_URL: urlOf('http:', 'https:').optional(),
  DOCLING_API_KEY: z.string().optional(),
  PARSE_TIME_LIMIT_SECONDS: integer(300, 1, 3600),
  PARSE_HEAP_MB: integer(512, 64, 16_384),
  WEB_RESPECT_ROBOTS: flag.default(true),
  WEB_USER_AGENT: z
    .string()
    .regex(/^[\x20-\x7e]{1,200}$/, 'must be at most 200 printable ASCII characters')
    .default('Enclave/1.0'),
  WEB_FETCH_TIMEOUT_SECONDS: integer(60, 1, 600),
  S3_ENDPOINT: urlOf('http:', 'https:').optional(),
  S3_REGION: z.string().default('us-east-1'),
  S3_BUCKET: z.string().optional(),
  S3_ACCESS_KEY_ID: z.string().optional(),
  S3_SECRET_ACCESS_KEY: z.string().optional(),
  S3_FORCE_PATH_STYLE: flag.optional(),
  PUBLIC_URL: urlOf('http:', 'https:').optional(),
  SMTP_URL: urlOf('smtp:', 'smtps:').optional(),
  MAIL_FROM: z.string().max(320).default('Enclave <enclave@localhost>'),
  SELF_REGISTRATION: flag.default(true),
  SELF_SERVICE_TENANTS: flag.default(false),
  SELF_SERVICE_MAX_TENANTS: integer(3, 1, 10_000),
  FEATURES: z
    .string()
    .default('{}')
    .transform((text, context) => {
      try {
        const value: unknown = JSON.parse(text);
        if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
          return value as Record<string, unknown>;
        }
      } catch {
        // Said below.
      }
      context.addIssue('must be a JSON object of feature flags, such as {"invitations":false}');
      return z.NEVER;
    }),
  ACCESS_TOKEN_TTL_SECONDS: integer(15 * 60, 30, 24 * 3600),
  REFRESH_TOKEN_TTL_DAYS: integer(30, 1, 365),
  AUTH_RATE_LIMIT_PER_MINUTE: integer(30, 1, 100_000),
  RATE_LIMIT_PER_MEMBER_PER_MINUTE: integer(30_000, 1, 10_000_000),
  RATE_LIMIT_PER_ADDRESS_PER_MINUTE: integer(300, 1, 10_000_000),
  DEFAULT_PLAN_TIER: z
    .enum(['free', 'starter', 'pro', 'enterprise'], 'must be free, starter, pro or enterprise')
    .default('free'),
  USAGE_RETENTION_DAYS: integer(90, 1, 3650),
  MAX_UPLOAD_MB: integer(100, 1, 10_000),
  LARGE_KB_CHUNKS: integer(8_000, 100, 1_000_000_000),
  MAX_JSON_MB: integer(12, 1, 100),
  REQUEST_TIMEOUT_SECONDS: integer(60, 1, 3600),
  AUTHORIZATION_CACHE_SIZE: integer(1000, 1, 1_000_000),
  CORS_ORIGINS: z.string().default(''),
  OUTBOUND_ALLOWED_HOSTS: z
    .string()
    .default('')
    .transform((text, context) => {
      const hosts = listOf(text).map(hostAndPort);
      if (hosts.every(host => host !== null)) return hosts;
      context.addIssue(
        'must be hosts, each with or without a port, separated by commas: hooks.internal,10.0.0.5:8080',
      );
      return z.NEVER;
    }),
  TRUST_PROXY: proxies,
  MAX_CONNECTIONS: integer(10_000, 1, 1_000_000),
  MAX_CONNECTIONS_PER_ADDRESS: integer(1_000, 1, 1_000_000),
  API_DOCS: flag.default(true),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  LOG_FORMAT: z.enum(['json', 'pretty'], 'must be json or pretty').optional(),
});

/** The environment variables that the installation knows; `.env.example` explains each. */
export const settingNames: readonly string[] = Object.keys(schema.shape);

const listOf = (text: string): string[] =>
  text
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '');

/** What examples show, and what was typed: 32 hexadecimal digits that chance has drawn are at least 8 different ones. */
const isGuessable = (text: string): boolean =>
  text !== '' &&
  (new Set(text).size < 8 ||
    /(change|replace)[-_ ]?(me|this|it)|your[-_ ]?(jwt|secret|key|encryption)|placeholder|openssl rand/i.test(
      text,
    ));

const endpointOf = (
  baseUrl: string | undefined,
  apiKey: string | undefined,
  model: string | undefined,
): ModelEndpoint | null => (baseUrl && model ? { baseUrl, apiKey: apiKey ?? '', model } : null);

/** @returns null for what is no host with or without a port; an IPv6 address stands in brackets */
function hostAndPort(text: string): HostAndPort | null {
  const [, name, port] = /^(\[[\da-f:.]+\]|[^\s:/?#@[\]\\]+)(?::(\d{1,5}))?$/i.exec(text) ?? [];
  if (name === undefined || !URL.canParse(`http://${name}/`)) return null;
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) return null;
  return { host: new URL(`http://${name}/`).hostname, port: port === undefined ? null : Number(port) };
}

/** Reads `.env` of the working directory, where there is one, into `process.env`; set variables win. */
export function loadEnvFile(): void {
  if (existsSync('.env')) process.loadEnvFile('.env');
}

/**
 * Parses the settings.
 *
 * @throws SettingsError naming every setting that is missing or wrong
 */
export function parseEnv(source: NodeJS.ProcessEnv): Env {
  // An empty variable is an unset one: compose files and CI systems pass those.
  const set = Object.fromEntries(Object.entries(source).filter(([, value]) => value !== ''));
  const result = schema.safeParse(set);
  if (!result.success) {
    throw new SettingsError(
      result.error.issues.map(issue => `${issue.path.join('.')} ${issue.message}`).join('\n'),
    );
  }
  const env = result.data;
  const production = env.NODE_ENV === 'production';
  const server = env.DATABASE_URL !== undefined || env.DATABASE_ADMIN_URL !== undefined;
  const problems: string[] = [];
  if (production && !env.JWT_SECRET)
    problems.push('JWT_SECRET must be set in production (openssl rand -hex 32)');
  if (production && !env.ENCRYPTION_KEY)
    problems.push('ENCRYPTION_KEY must be set in production (openssl rand -hex 32)');
  for (const name of ['JWT_SECRET', 'ENCRYPTION_KEY'] as const) {
    if (production && isGuessable(env[name] ?? ''))
      problems.push(`${name} can be guessed: make one with: openssl rand -hex 32`);
  }
  if (production && env.JWT_SECRET && env.JWT_SECRET === env.ENCRYPTION_KEY)
    problems.push(
      'JWT_SECRET and ENCRYPTION_KEY must differ; another JWT_SECRET only makes people sign in again',
    );
  if (production && server && !env.DATABASE_URL) {
    problems.push(
      'DATABASE_URL must name the running role in production; DATABASE_ADMIN_URL is for migrations only',
    );
  }
  if (env.REDIS_URL && !server)
    problems.push('REDIS_URL is for several processes on one server: set DATABASE_URL too');
  if (env.WORKER === 'external' && !env.REDIS_URL) {
    problems.push('WORKER=external needs REDIS_URL, through which the other processes get their jobs');
  }
  if (env.EMBEDDING_BASE_URL && !env.EMBEDDING_MODEL)
    problems.push('EMBEDDING_MODEL must name the model of EMBEDDING_BASE_URL');
  if (env.EMBEDDING_BASE_URL && env.EMBEDDING_ONNX_PATH)
    problems.push(
      'EMBEDDING_BASE_URL and EMBEDDING_ONNX_PATH both name a model for embeddings: set one of them',
    );
  const oldKeys = listOf(env.ENCRYPTION_OLD_KEYS);
  if (oldKeys.some(key => !secret.safeParse(key).success))
    problems.push('ENCRYPTION_OLD_KEYS must be former ENCRYPTION_KEYs, separated by commas');
  for (const kind of ['LLM', 'VISION', 'TRANSCRIPTION'] as const) {
    if (env[`${kind}_BASE_URL`] && !env[`${kind}_MODEL`])
      problems.push(`${kind}_MODEL must name the model of ${kind}_BASE_URL`);
  }
  if ((env.S3_ENDPOINT ?? env.S3_ACCESS_KEY_ID ?? env.S3_SECRET_ACCESS_KEY) && !env.S3_BUCKET)
    problems.push('S3_BUCKET must name the bucket');
  if ((env.S3_ACCESS_KEY_ID === undefined) !== (env.S3_SECRET_ACCESS_KEY === undefined))
    problems.push('S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY must be set together');
  if (problems.length > 0) throw new SettingsError(problems.join('\n'));

  return {
    production,
    host: env.HOST,
    port: env.PORT,
    dataDir: resolve(env.DATA_DIR),
    database: server
      ? {
          mode: 'server',
          url: env.DATABASE_URL ?? null,
          adminUrl: env.DATABASE_ADMIN_URL ?? null,
          migrateOnStart: env.MIGRATE_ON_START ?? (!production && env.DATABASE_ADMIN_URL !== undefined),
          poolSize: env.DATABASE_POOL_SIZE,
        }
      : { mode: 'embedded' },
    redisUrl: env.REDIS_URL ?? null,
    worker: env.WORKER,
    workerConcurrency: env.WORKER_CONCURRENCY,
    jwtSecret: env.JWT_SECRET ?? null,
    encryptionKey: env.ENCRYPTION_KEY ?? null,
    oldEncryptionKeys: oldKeys,
    platformAdmin: { email: env.PLATFORM_ADMIN_EMAIL, password: env.PLATFORM_ADMIN_PASSWORD ?? null },
    embedding: endpointOf(env.EMBEDDING_BASE_URL, env.EMBEDDING_API_KEY, env.EMBEDDING_MODEL),
    embeddingFolder: env.EMBEDDING_ONNX_PATH ? resolve(env.EMBEDDING_ONNX_PATH) : null,
    llm: endpointOf(env.LLM_BASE_URL, env.LLM_API_KEY, env.LLM_MODEL),
    vision: endpointOf(env.VISION_BASE_URL, env.VISION_API_KEY, env.VISION_MODEL),
    transcription: endpointOf(env.TRANSCRIPTION_BASE_URL, env.TRANSCRIPTION_API_KEY, env.TRANSCRIPTION_MODEL),
    docling: env.DOCLING_URL
      ? { url: env.DOCLING_URL.replace(/\/+$/, ''), apiKey: env.DOCLING_API_KEY ?? null }
      : null,
    parsing: { timeLimit: env.PARSE_TIME_LIMIT_SECONDS * 1000, heapMb: env.PARSE_HEAP_MB },
    web: {
      respectRobots: env.WEB_RESPECT_ROBOTS,
      userAgent: env.WEB_USER_AGENT,
      timeout: env.WEB_FETCH_TIMEOUT_SECONDS * 1000,
    },
    s3: env.S3_BUCKET
      ? {
          endpoint: env.S3_ENDPOINT ?? null,
          region: env.S3_REGION,
          bucket: env.S3_BUCKET,
          credentials:
            env.S3_ACCESS_KEY_ID && env.S3_SECRET_ACCESS_KEY
              ? { accessKeyId: env.S3_ACCESS_KEY_ID, secretAccessKey: env.S3_SECRET_ACCESS_KEY }
              : null,
          forcePathStyle: env.S3_FORCE_PATH_STYLE ?? env.S3_ENDPOINT !== undefined,
        }
      : null,
    publicUrl: env.PUBLIC_URL?.replace(/\/+$/, '') ?? null,
    mail: { smtpUrl: env.SMTP_URL ?? null, from: env.MAIL_FROM },
    selfService: { enabled: env.SELF_SERVICE_TENANTS, maxTenants: env.SELF_SERVICE_MAX_TENANTS },
    selfRegistration: env.SELF_REGISTRATION,
    features: env.FEATURES,
    accessTokenTtl: env.ACCESS_TOKEN_TTL_SECONDS,
    refreshTokenTtl: env.REFRESH_TOKEN_TTL_DAYS * 24 * 3600,
    authRateLimit: env.AUTH_RATE_LIMIT_PER_MINUTE,
    rateLimits: {
      perMember: env.RATE_LIMIT_PER_MEMBER_PER_MINUTE,
      perAddress: env.RATE_LIMIT_PER_ADDRESS_PER_MINUTE,
    },
    defaultPlanTier: env.DEFAULT_PLAN_TIER,
    usageRetentionDays: env.USAGE_RETENTION_DAYS,
    maxUploadBytes: env.MAX_UPLOAD_MB * 1024 * 1024,
    largeKbChunks: env.LARGE_KB_CHUNKS,
    maxJsonBytes: env.MAX_JSON_MB * 1024 * 1024,
    requestTimeout: env.REQUEST_TIMEOUT_SECONDS * 1000,
    authorizationCacheSize: env.AUTHORIZATION_CACHE_SIZE,
    corsOrigins: listOf(env.CORS_ORIGINS),
    outboundAllowedHosts: env.OUTBOUND_ALLOWED_HOSTS,
    trustProxy: env.TRUST_PROXY,
    connections: { most: env.MAX_CONNECTIONS, perAddress: env.MAX_CONNECTIONS_PER_ADDRESS },
    apiDocs: env.API_DOCS,
    logLevel: env.LOG_LEVEL,
    logFormat: env.LOG_FORMAT ?? (process.stdout.isTTY ? 'pretty' : 'json'),
  };
}
