import { readFileSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { parseEnv as parseEnvFile } from 'node:util';
import { describe, expect, it } from 'vitest';
import { SettingsError, parseEnv, settingNames } from './env.js';

const SECRET = '0123456789abcdef'.repeat(2);
const KEY = 'fedcba9876543210'.repeat(2);
const LOGIN_URL = 'postgres://enclave_app:secret@db:5432/enclave';
const ADMIN_URL = 'postgresql://postgres:secret@db:5432/enclave';
const PRODUCTION = { NODE_ENV: 'production', JWT_SECRET: SECRET, ENCRYPTION_KEY: KEY };

/** The sentences, one a problem, with which the settings are refused. */
function refusal(source: NodeJS.ProcessEnv): string[] {
  try {
    parseEnv(source);
  } catch (error) {
    if (error instanceof SettingsError) return error.message.split('\n');
    throw error;
  }
  throw new Error('the settings were accepted');
}

describe('parseEnv', () => {
  it('needs no setting at all outside production', () => {
    expect(parseEnv({})).toEqual({
      production: false,
      host: '127.0.0.1',
      port: 3000,
      dataDir: resolve('data'),
      database: { mode: 'embedded' },
      redisUrl: null,
      worker: 'in',
      workerConcurrency: 2,
      jwtSecret: null,
      encryptionKey: null,
      platformAdmin: { email: 'admin@enclave.local', password: null },
      embedding: null,
      embeddingFolder: null,
      llm: null,
      vision: null,
      transcription: null,
      docling: null,
      parsing: { timeLimit: 300_000, heapMb: 512 },
      web: { respectRobots: true, userAgent: 'Enclave/1.0', timeout: 60_000 },
      s3: null,
      oldEncryptionKeys: [],
      publicUrl: null,
      mail: { smtpUrl: null, from: 'Enclave <enclave@localhost>' },
      selfService: { enabled: false, maxTenants: 3 },
      selfRegistration: true,
      features: {},
      accessTokenTtl: 900,
      refreshTokenTtl: 2_592_000,
      authRateLimit: 30,
      rateLimits: { perMember: 30_000, perAddress: 300 },
      defaultPlanTier: 'free',
      usageRetentionDays: 90,
      maxUploadBytes: 104_857_600,
      largeKbChunks: 8_000,
      maxJsonBytes: 12_582_912,
      requestTimeout: 60_000,
      authorizationCacheSize: 1000,
      corsOrigins: [],
      outboundAllowedHosts: [],
      trustProxy: false,
      connections: { most: 10_000, perAddress: 1_000 },
      apiDocs: true,
      logLevel: 'info',
      logFormat: process.stdout.isTTY ? 'pretty' : 'json',
    });
  });

  it('takes an empty variable for an unset one', () => {
    expect(parseEnv(Object.fromEntries(settingNames.map(name => [name, ''])))).toEqual(parseEnv({}));
  });

  it('ignores variables that are not its own', () => {
    expect(parseEnv({ PATH: '/usr/bin', HOME: '/root' })).toEqual(parseEnv({}));
  });

  it('converts units and lists', () => {
    const env = parseEnv({
      DATA_DIR: 'somewhere/else',
      REFRESH_TOKEN_TTL_DAYS: '1',
      MAX_UPLOAD_MB: '5',
      MAX_JSON_MB: '1',
      REQUEST_TIMEOUT_SECONDS: '2',
      CORS_ORIGINS: ' https://a.example, ,https://b.example ',
      OUTBOUND_ALLOWED_HOSTS: 'Hooks.Internal, 10.0.0.5:8080,[::1]:99,0x7f000001',
    });
    expect(isAbsolute(env.dataDir)).toBe(true);
    expect(env).toMatchObject({
      dataDir: resolve('somewhere/else'),
      refreshTokenTtl: 86_400,
      maxUploadBytes: 5 * 1024 * 1024,
      maxJsonBytes: 1024 * 1024,
      requestTimeout: 2000,
      corsOrigins: ['https://a.example', 'https://b.example'],
      outboundAllowedHosts: [
        { host: 'hooks.internal', port: null },
        { host: '10.0.0.5', port: 8080 },
        { host: '[::1]', port: 99 },
        { host: '127.0.0.1', port: null },
      ],
    });
  });

  it.each([
    ['true', true],
    ['1', true],
    ['false', false],
    ['0', false],
  ])('reads the flag %s as %s', (value, expected) => {
    expect(parseEnv({ SELF_SERVICE_TENANTS: value }).selfService.enabled).toBe(expected);
  });

  it.each([
    ['true', 1],
    ['1', 1],
    ['3', 3],
    ['false', false],
    ['0', false],
    ['10.0.0.0/8, 192.0.2.7,::1,loopback', ['10.0.0.0/8', '192.0.2.7', '::1', 'loopback']],
  ])('trusts the proxies %s', (value, expected) => {
    expect(parseEnv({ TRUST_PROXY: value }).trustProxy).toEqual(expected);
  });

  it('describes a model endpoint, with or without a key', () => {
    const env = parseEnv({
      EMBEDDING_BASE_URL: 'http://localhost:11434/v1',
      EMBEDDING_MODEL: 'nomic-embed-text',
      LLM_BASE_URL: 'https://models.example/v1',
      LLM_API_KEY: 'key',
      LLM_MODEL: 'large',
    });
    expect(env.embedding).toEqual({
      baseUrl: 'http://localhost:11434/v1',
      apiKey: '',
      model: 'nomic-embed-text',
    });
    expect(env.llm).toEqual({ baseUrl: 'https://models.example/v1', apiKey: 'key', model: 'large' });
  });

  it('finds the folder of a model from the working directory', () => {
    expect(parseEnv({}).embeddingFolder).toBeNull();
    expect(parseEnv({ EMBEDDING_ONNX_PATH: 'models/e5' }).embeddingFolder).toBe(resolve('models/e5'));
  });

  describe('on a PostgreSQL server', () => {
    it.each([
      ['migrates at the start where it can', { DATABASE_ADMIN_URL: ADMIN_URL }, true],
      ['does not migrate without the means', { DATABASE_URL: LOGIN_URL }, false],
      [
        'does not migrate when told not to',
        { DATABASE_ADMIN_URL: ADMIN_URL, MIGRATE_ON_START: 'false' },
        false,
      ],
      [
        'does not migrate in production',
        { ...PRODUCTION, DATABASE_URL: LOGIN_URL, DATABASE_ADMIN_URL: ADMIN_URL },
        false,
      ],
      [
        'migrates in production when told to',
        { ...PRODUCTION, DATABASE_URL: LOGIN_URL, DATABASE_ADMIN_URL: ADMIN_URL, MIGRATE_ON_START: 'true' },
        true,
      ],
    ])('%s', (_behaviour, source: NodeJS.ProcessEnv, migrateOnStart) => {
      expect(parseEnv(source).database).toEqual({
        mode: 'server',
        url: source['DATABASE_URL'] ?? null,
        adminUrl: source['DATABASE_ADMIN_URL'] ?? null,
        migrateOnStart,
        poolSize: 10,
      });
    });
  });

  describe('refuses', () => {
    it.each([
      ['PORT', ['-1', '65536', '80.5', 'http', 'Infinity'], 'must be a whole number from 0 to 65535'],
      [
        'DATABASE_URL',
        ['db:5432', 'mysql://db'],
        'must be an address that starts with postgres:// or postgresql://',
      ],
      ['DATABASE_ADMIN_URL', ['db'], 'must be an address that starts with postgres:// or postgresql://'],
      ['DATABASE_POOL_SIZE', ['0', '501'], 'must be a whole number from 1 to 500'],
      ['MIGRATE_ON_START', ['yes'], 'must be true or false'],
      ['REDIS_URL', ['http://redis', 'redis'], 'must be an address that starts with redis:// or rediss://'],
      ['WORKER', ['out'], 'must be in or external'],
      ['WORKER_CONCURRENCY', ['0', '65'], 'must be a whole number from 1 to 64'],
      [
        'JWT_SECRET',
        ['x'.repeat(31)],
        'must have at least 32 characters; make one with: openssl rand -hex 32',
      ],
      ['ENCRYPTION_KEY', ['short'], 'must have at least 32 characters; make one with: openssl rand -hex 32'],
      ['PLATFORM_ADMIN_EMAIL', ['admin', 'admin@'], 'must be an e-mail address'],
      ['PLATFORM_ADMIN_PASSWORD', ['x'.repeat(11)], 'must have at least 12 characters'],
      ['EMBEDDING_BASE_URL', ['localhost'], 'must be an address that starts with http:// or https://'],
      ['LLM_BASE_URL', ['ftp://models'], 'must be an address that starts with http:// or https://'],
      ['ACCESS_TOKEN_TTL_SECONDS', ['29', '86401'], 'must be a whole number from 30 to 86400'],
      ['REFRESH_TOKEN_TTL_DAYS', ['0', '366'], 'must be a whole number from 1 to 365'],
      ['AUTH_RATE_LIMIT_PER_MINUTE', ['0', '100001'], 'must be a whole number from 1 to 100000'],
      [
        'RATE_LIMIT_PER_MEMBER_PER_MINUTE',
        ['0', '10000001', '1.5'],
        'must be a whole number from 1 to 10000000',
      ],
      ['RATE_LIMIT_PER_ADDRESS_PER_MINUTE', ['0', '-1'], 'must be a whole number from 1 to 10000000'],
      ['DEFAULT_PLAN_TIER', ['gold', 'FREE'], 'must be free, starter, pro or enterprise'],
      ['USAGE_RETENTION_DAYS', ['0', '3651'], 'must be a whole number from 1 to 3650'],
      ['MAX_UPLOAD_MB', ['0', '10001'], 'must be a whole number from 1 to 10000'],
      ['LARGE_KB_CHUNKS', ['99', '1000000001'], 'must be a whole number from 100 to 1000000000'],
      ['MAX_JSON_MB', ['0', '101'], 'must be a whole number from 1 to 100'],
      ['REQUEST_TIMEOUT_SECONDS', ['0', '3601'], 'must be a whole number from 1 to 3600'],
      ['AUTHORIZATION_CACHE_SIZE', ['0', '1000001'], 'must be a whole number from 1 to 1000000'],
      [
        'OUTBOUND_ALLOWED_HOSTS',
        [
          'http://hooks',
          'hooks:0',
          'hooks:65536',
          '::1',
          'a b',
          'user@hooks',
          'hooks/path',
          '[::1',
          'ok,:80',
        ],
        'must be hosts, each with or without a port, separated by commas: hooks.internal,10.0.0.5:8080',
      ],
      [
        'TRUST_PROXY',
        ['maybe', '-1', '100', '10.0.0.0/33', '10.0.0', 'proxy.internal', '10.0.0.1,'.repeat(2) + 'x'],
        'must be true or false, how many proxies there are, or their addresses: 10.0.0.0/8,192.0.2.7',
      ],
      ['MAX_CONNECTIONS', ['0', '1000001'], 'must be a whole number from 1 to 1000000'],
      ['MAX_CONNECTIONS_PER_ADDRESS', ['0', '1000001'], 'must be a whole number from 1 to 1000000'],
      ['API_DOCS', ['maybe'], 'must be true or false'],
      ['SELF_REGISTRATION', ['maybe'], 'must be true or false'],
      ['LOG_FORMAT', ['xml'], 'must be json or pretty'],
    ])('a wrong %s', (name, values, sentence) => {
      // A server, so that no rule about several settings speaks up beside the one under test.
      const server = { DATABASE_URL: LOGIN_URL };
      expect(values.map(value => refusal({ ...server, [name]: value }))).toEqual(
        values.map(() => [`${name} ${sentence}`]),
      );
    });

    it('an unknown log level and a password without end, by name', () => {
      expect(refusal({ LOG_LEVEL: 'loud' })).toEqual([expect.stringMatching(/^LOG_LEVEL .*"silent"/)]);
      expect(refusal({ PLATFORM_ADMIN_PASSWORD: 'x'.repeat(257) })).toEqual([
        expect.stringMatching(/^PLATFORM_ADMIN_PASSWORD .*256/),
      ]);
    });

    it.each([
      [
        'Redis beside the embedded database',
        { REDIS_URL: 'redis://redis:6379' },
        'REDIS_URL is for several processes on one server: set DATABASE_URL too',
      ],
      [
        'an external worker that jobs cannot reach',
        { DATABASE_URL: LOGIN_URL, WORKER: 'external' },
        'WORKER=external needs REDIS_URL, through which the other processes get their jobs',
      ],
      [
        'an embedding endpoint without a model',
        { EMBEDDING_BASE_URL: 'http://models/v1' },
        'EMBEDDING_MODEL must name the model of EMBEDDING_BASE_URL',
      ],
      [
        'two models for embeddings',
        {
          EMBEDDING_BASE_URL: 'http://models/v1',
          EMBEDDING_MODEL: 'nomic-embed-text',
          EMBEDDING_ONNX_PATH: '/models/e5',
        },
        'EMBEDDING_BASE_URL and EMBEDDING_ONNX_PATH both name a model for embeddings: set one of them',
      ],
      [
        'a chat endpoint without a model',
        { LLM_BASE_URL: 'http://models/v1' },
        'LLM_MODEL must name the model of LLM_BASE_URL',
      ],
      [
        'production without a token secret',
        { ...PRODUCTION, JWT_SECRET: '' },
        'JWT_SECRET must be set in production (openssl rand -hex 32)',
      ],
      [
        'production without an encryption key',
        { ...PRODUCTION, ENCRYPTION_KEY: '' },
        'ENCRYPTION_KEY must be set in production (openssl rand -hex 32)',
      ],
      [
        'production under the administrator alone',
        { ...PRODUCTION, DATABASE_ADMIN_URL: ADMIN_URL },
        'DATABASE_URL must name the running role in production; DATABASE_ADMIN_URL is for migrations only',
      ],
    ])('%s', (_case, source: NodeJS.ProcessEnv, sentence) => {
      expect(refusal(source)).toEqual([sentence]);
    });

    it.each([
      'x'.repeat(64),
      'abcabc'.repeat(10),
      'change-me-change-me-change-me-0123456789',
      'your_jwt_secret_of_at_least_32_characters',
      '$(openssl rand -hex 32), 0123456789',
    ])('secrets that can be guessed, in production: %s', guessable => {
      expect(refusal({ ...PRODUCTION, JWT_SECRET: guessable, ENCRYPTION_KEY: guessable })).toEqual([
        'JWT_SECRET can be guessed: make one with: openssl rand -hex 32',
        'ENCRYPTION_KEY can be guessed: make one with: openssl rand -hex 32',
        'JWT_SECRET and ENCRYPTION_KEY must differ; another JWT_SECRET only makes people sign in again',
      ]);
      expect(parseEnv({ JWT_SECRET: guessable }).jwtSecret).toBe(guessable);
    });

    it('everything that is wrong at once', () => {
      expect(refusal({ PORT: 'x', WORKER: 'x' }).map(line => line.split(' ')[0])).toEqual(['PORT', 'WORKER']);
      expect(refusal({ NODE_ENV: 'production' }).map(line => line.split(' ')[0])).toEqual([
        'JWT_SECRET',
        'ENCRYPTION_KEY',
      ]);
    });
  });

  it('accepts production on the embedded database, and on a server with Redis and workers', () => {
    expect(parseEnv(PRODUCTION)).toMatchObject({ production: true, database: { mode: 'embedded' } });
    const source = {
      ...PRODUCTION,
      DATABASE_URL: LOGIN_URL,
      REDIS_URL: 'redis://redis:6379',
      WORKER: 'external',
    };
    expect(parseEnv(source)).toMatchObject({
      production: true,
      database: { mode: 'server', url: LOGIN_URL, adminUrl: null },
      redisUrl: 'redis://redis:6379',
      worker: 'external',
      jwtSecret: SECRET,
      encryptionKey: KEY,
    });
  });
});

describe('.env.example', () => {
  const example = readFileSync(new URL('../../../.env.example', import.meta.url), 'utf8');

  it('names every setting once, and no other', () => {
    const names = [...example.matchAll(/^([A-Z][A-Z0-9_]*)=/gm)].map(match => match[1]);
    expect(names).toHaveLength(settingNames.length);
    expect(new Set(names)).toEqual(new Set(settingNames));
  });

  it('explains every setting right above it, with its default', () => {
    const explained = [...example.matchAll(/((?:^# (?!---).+\n)+)([A-Z][A-Z0-9_]*)=(.*)$/gm)]
      .filter(([, comment = '', , value]) => comment.replaceAll('\n# ', ' ').includes(`Default: ${value}`))
      .map(([, , name]) => name);
    expect(settingNames.filter(name => !explained.includes(name))).toEqual([]);
  });

  it('shows the defaults: an untouched copy changes nothing', () => {
    expect(parseEnv(parseEnvFile(example) as NodeJS.ProcessEnv)).toEqual(parseEnv({}));
  });
});
