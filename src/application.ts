import fastifyCors from '@fastify/cors';
import fastifyMultipart from '@fastify/multipart';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { v7 as uuidv7, validate as isUuid } from 'uuid';
import { MIGRATIONS } from '../migrations/all.js';
import { AppModule, ENTITIES, type ProcessRole } from './app.module.js';
import { writeDefaultPolicy } from './core/authorization/default-policy.repository.js';
import { TenantContext } from './core/tenancy/tenant-context.js';
import { FirstAdminService } from './entry/authentication/first-admin.service.js';
import { API_PAGE, serveApiDocument } from './entry/openapi.js';
import { serveQueueBoard } from './entry/queue-board/queue-board.js';
import type { Env } from './foundation/config/env.js';
import { SettingsError } from './foundation/config/env.js';
import { secretValues } from './foundation/config/secret-values.js';
import { loadSecrets } from './foundation/crypto/secrets.js';
import { checkCatalogue } from './foundation/database/catalogue-check.js';
import { type DatabaseAccess, openDatabase } from './foundation/database/data-source.js';
import { installationId } from './foundation/database/installation-id.js';
import { migrate, pendingMigrations } from './foundation/database/migrate.js';
import { createLogger, PinoLoggerService } from './foundation/http/logging.js';
import { answerClientError } from './foundation/http/client-error.js';
import { sendProblem } from './foundation/http/problem.filter.js';
import { Problem } from './foundation/http/problem.js';
import { guardRequests, limitBodies } from './foundation/http/request-guards.js';
import { manageRequests } from './foundation/http/request-lifecycle.js';
import { protectAnswers } from './foundation/http/response-headers.js';
import { limitConnections } from './foundation/rate-limits/connection-limits.js';
import { RATE_LIMIT_HEADERS } from './foundation/rate-limits/rate-limit-headers.js';

const FILES_PER_UPLOAD = 100;
/** Below these, and nowhere else, requests with a body need no credential. */
const PUBLIC_PATHS = ['/api/v1/auth', '/api/v1/invitations'];
/** Milliseconds that the head of a request may take to arrive. */
const HEADERS_TIMEOUT = 15_000;
/** How often Node looks for requests that are late; it also decides how much later they end. Milliseconds. */
const LATE_REQUESTS_EVERY = 5_000;

/** A process of this application, up and running. */
export interface Application {
  nest: INestApplicationContext;
  /** Null where this process answers no requests. */
  url: string | null;
  /** The password that was made up for the first platform admin, at the one start that made it. */
  adminPassword: string | null;
  /** Ends requests and jobs under way, then everything else. */
  close(): Promise<void>;
}

/**
 * Starts a process: the database and its migrations, the check of the catalogue, and then whatever `role` says.
 *
 * @throws SettingsError, DataFolderInUseError, IsolationError: with a sentence for the person who starts it
 */
export async function startApplication(env: Env, role: ProcessRole): Promise<Application> {
  const secrets = loadSecrets(env);
  const access = await openDatabase(env, secrets.jwtSecret);
  const closing: Array<() => Promise<unknown>> = [() => access.close()];
  const close = async () => {
    for (let step = closing.pop(); step; step = closing.pop()) await step();
  };
  try {
    if (access.url === null || (env.database.mode === 'server' && env.database.migrateOnStart)) {
      await migrate(access, writeDefaultPolicy);
    }
    const dataSource = access.application(ENTITIES);
    await dataSource.initialize();
    closing.push(() => dataSource.destroy());
    await requireMigrated(access, dataSource);
    await checkCatalogue(dataSource);
    const installation = await installationId(dataSource);

    const module = AppModule.forRoot({
      env,
      secrets,
      dataSource,
      databaseUrl: access.url,
      installation,
      role,
    });
    const hidden = [...secretValues(env), secrets.jwtSecret, secrets.encryptionKey];
    const { nest, listen, drain } = role.http
      ? await createHttp(env, hidden, module)
      : await createContext(env, hidden, module);
    closing.push(() => {
      // New requests are refused from here on, not from when the last one before it, or the last job, has ended.
      drain();
      return nest.close();
    });
    const adminPassword = await nest.get(FirstAdminService, { strict: false }).ensure();
    return { nest, url: await listen(), adminPassword, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function requireMigrated(
  access: DatabaseAccess,
  dataSource: ReturnType<DatabaseAccess['application']>,
): Promise<void> {
  const pending = await pendingMigrations(
    dataSource,
    MIGRATIONS.map(migration => migration.name),
  );
  if (pending.length > 0) {
    throw new SettingsError(
      `The database lacks ${pending.length} migration(s), beginning with ${pending[0]}. ` +
        'Run "npm run migrate" with DATABASE_ADMIN_URL, or set MIGRATE_ON_START=true.',
    );
  }
}

interface Created {
  nest: INestApplicationContext;
  listen: () => Promise<string | null>;
  /** Takes no more requests; those under way go on. */
  drain: () => void;
}

type RootModule = ReturnType<typeof AppModule.forRoot>;

async function createContext(env: Env, secrets: readonly string[], module: RootModule): Promise<Created> {
  const logger = new PinoLoggerService(createLogger(env, secrets));
  const nest = await NestFactory.createApplicationContext(module, { logger, abortOnError: false });
  return { nest, listen: () => Promise.resolve(null), drain: () => undefined };
}

async function createHttp(env: Env, secrets: readonly string[], module: RootModule): Promise<Created> {
  const logger = createLogger(env, secrets);
  const adapter = new FastifyAdapter({
    bodyLimit: env.maxJsonBytes,
    trustProxy: trustedProxies(env),
    http: {
      headersTimeout: Math.min(HEADERS_TIMEOUT, env.requestTimeout),
      connectionsCheckingInterval: Math.min(LATE_REQUESTS_EVERY, env.requestTimeout / 4),
    },
    requestTimeout: env.requestTimeout,
    connectionTimeout: 0,
    forceCloseConnections: 'idle',
    return503OnClosing: true,
    requestIdHeader: false,
    genReqId: (request: IncomingMessage) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && isUuid(given) ? given : uuidv7();
    },
    routerOptions: { maxParamLength: 500 },
    frameworkErrors: (error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
      // An id or a name that long is nobody's.
      const tooLong = error.code === 'FST_ERR_MAX_PARAM_LENGTH';
      const malformed = Problem.malformed('malformed_url', 'The address of this request is malformed.');
      sendProblem(tooLong ? Problem.notFound() : malformed, request, reply);
    },
    clientErrorHandler: answerClientError,
  });
  const nest = await NestFactory.create<NestFastifyApplication>(module, adapter, {
    logger: new PinoLoggerService(logger),
    abortOnError: false,
    bufferLogs: false,
    // Fastify's own parser of JSON does; Nest's would take forms too.
    bodyParser: false,
  });
  nest.setGlobalPrefix('api/v1', { exclude: ['docs', 'openapi.json'] });
  const fastify = nest.getHttpAdapter().getInstance();
  const context = nest.get(TenantContext);
  const requests = manageRequests(fastify, {
    timeout: env.requestTimeout,
    logger,
    logFields: () => {
      const principal = context.principalOrNull;
      return {
        tenant: context.tenantOrNull?.name,
        principal: principal && principal.kind !== 'system' ? principal.userId : undefined,
        token_id: principal?.kind === 'api_token' ? principal.tokenId : undefined,
      };
    },
  });
  guardRequests(fastify);
  limitBodies(fastify, PUBLIC_PATHS);
  // What is no JSON is a 415, and not a string that every schema refuses.
  fastify.removeContentTypeParser('text/plain');
  await protectAnswers(nest, API_PAGE);
  await nest.register(fastifyCors, {
    origin: env.corsOrigins.length > 0 ? env.corsOrigins : false,
    methods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: [
      'x-request-id',
      'retry-after',
      'etag',
      'location',
      ...RATE_LIMIT_HEADERS,
      'idempotency-replayed',
    ],
  });
  await nest.register(fastifyMultipart, {
    limits: {
      files: FILES_PER_UPLOAD,
      fields: 10,
      fieldSize: 128 * 1024,
      parts: FILES_PER_UPLOAD + 10,
      headerPairs: 50,
    },
  });
  if (env.apiDocs) serveApiDocument(nest, env);
  await serveQueueBoard(nest, env.redisUrl !== null);
  return {
    nest,
    drain: () => requests.drain(),
    async listen() {
      const { most, perAddress } = env.connections;
      limitConnections(nest.getHttpServer(), { most, perAddress: env.trustProxy ? null : perAddress });
      await nest.listen(env.port, env.host);
      const { address, port, family } = nest.getHttpServer().address() as AddressInfo;
      return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
    },
  };
}

/** Counted from this process outwards, where the settings say how many there are. */
function trustedProxies({ trustProxy }: Env): false | string[] | ((address: string, hop: number) => boolean) {
  return typeof trustProxy === 'number' ? (_address, hop) => hop < trustProxy : trustProxy;
}
