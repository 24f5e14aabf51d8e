import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { ProcessRole } from '../../src/app.module.js';
import { type Application, startApplication } from '../../src/application.js';
import { type Env, parseEnv } from '../../src/foundation/config/env.js';
import { Client } from './client.js';
import { startModelServer } from './model-server.js';
import { SERVER, TEST_SECRET, createTestDatabase } from './database.js';

export const ADMIN = { email: 'admin@enclave.test', password: 'the admin of all the tests' };

/** An application on a database of its own, and what tests do with it. */
export interface TestApplication {
  application: Application;
  env: Env;
  /** Nobody. */
  anonymous: Client;
  /** The platform admin. */
  admin: Client;
  /** A new user, registered and signed in. */
  createUser(
    name?: string,
  ): Promise<{ id: string; email: string; password: string; refreshToken: string; client: Client }>;
  /** A new user who is a member of the tenant. */
  createMember(tenant: string, role: string): Promise<{ id: string; email: string; client: Client }>;
  /** A tenant with one knowledge base, `docs`. */
  createTenant(name: string): Promise<{ id: string; name: string; kbId: string; kb: string }>;
  /** Adds a text and waits until it has been ingested. */
  addText(tenant: string, text: string, fields?: Record<string, unknown>): Promise<any>;
  /** Waits until a document is neither queued nor processing. */
  settled(tenant: string, documentId: string, kb?: string): Promise<any>;
  /** Waits until a job has ended. @param location its address, as answers that start one name it */
  jobEnded(location: string): Promise<any>;
  /** Another process of the same installation; only on a server. */
  startAnother(role: ProcessRole): Promise<Application>;
  /** Ends the process and starts another on the same database, with other settings where some are given. */
  restart(changes?: Record<string, string>): Promise<void>;
  close(): Promise<void>;
}

let users = 0;

export async function startTestApplication(
  settings: Record<string, string> = {},
  role: ProcessRole = { http: true, jobs: true },
): Promise<TestApplication> {
  const database = await createTestDatabase();
  // Loading the bundled model takes longer than most tests; those that are about it say `EMBEDDING_BASE_URL: ''`.
  const model = settings['EMBEDDING_BASE_URL'] === undefined ? await startModelServer() : null;
  if (SERVER) await flushRedis(database.env['REDIS_URL'] as string);
  const base: Record<string, string> = {
    PORT: '0',
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    PLATFORM_ADMIN_EMAIL: ADMIN.email,
    PLATFORM_ADMIN_PASSWORD: ADMIN.password,
    AUTH_RATE_LIMIT_PER_MINUTE: '100000',
    RATE_LIMIT_PER_MEMBER_PER_MINUTE: '10000000',
    RATE_LIMIT_PER_ADDRESS_PER_MINUTE: '10000000',
    DEFAULT_PLAN_TIER: 'enterprise',
    LOG_LEVEL: 'fatal',
    ...(model && { EMBEDDING_BASE_URL: model.url, EMBEDDING_MODEL: 'stub' }),
    ...database.env,
    ...settings,
  };
  if (base['EMBEDDING_BASE_URL'] === '') delete base['EMBEDDING_BASE_URL'];
  let env = parseEnv(base);
  let application = await startApplication(env, role);
  const others: Application[] = [];
  const anonymous = () => new Client(application.url as string);
  let admin = await signIn(anonymous(), ADMIN);

  const test: TestApplication = {
    get application() {
      return application;
    },
    get env() {
      return env;
    },
    get anonymous() {
      return anonymous();
    },
    get admin() {
      return admin;
    },
    async createUser(name = `user${++users}`) {
      const email = `${name}@example.com`;
      const password = `the password of ${name}`;
      const { body } = await expectStatus(
        201,
        anonymous().post('/auth/register', { email, password, display_name: name }),
      );
      return {
        id: body.user.id,
        email,
        password,
        refreshToken: body.refresh_token,
        client: anonymous().withToken(body.access_token),
      };
    },
    async createMember(tenant, memberRole) {
      const user = await test.createUser();
      await expectStatus(
        201,
        admin.post(`/tenants/${tenant}/members`, { user_id: user.id, role: memberRole }),
      );
      return user;
    },
    async createTenant(name) {
      const tenant = await expectStatus(201, admin.post('/tenants', { name }));
      const kb = await expectStatus(201, admin.post(`/tenants/${name}/kbs`, { name: 'Docs' }));
      return { id: tenant.body.id, name, kbId: kb.body.id, kb: 'docs' };
    },
    async addText(tenant, text, fields = {}) {
      const { body } = await expectStatus(
        202,
        admin.post(`/tenants/${tenant}/kbs/docs/documents/text`, { text, ...fields }),
      );
      return test.settled(tenant, body.id);
    },
    async settled(tenant, documentId, kb = 'docs') {
      for (let waited = 0; waited < 30_000; waited += 50) {
        const { body } = await admin.get(`/tenants/${tenant}/kbs/${kb}/documents/${documentId}`);
        if (body.status !== 'queued' && body.status !== 'processing') return body;
        await sleep(50);
      }
      throw new Error(`Document ${documentId} has not been ingested in 30 s.`);
    },
    async jobEnded(location) {
      for (let waited = 0; waited < 30_000; waited += 50) {
        const { body } = await expectStatus(200, admin.get(location.replace('/api/v1', '')));
        if (body.status !== 'queued' && body.status !== 'running') return body;
        await sleep(50);
      }
      throw new Error(`The job ${location} has not ended in 30 s.`);
    },
    async startAnother(anotherRole) {
      const another = await startApplication(env, anotherRole);
      others.push(another);
      return another;
    },
    async restart(changes = {}) {
      await application.close();
      env = parseEnv({ ...base, ...changes });
      application = await startApplication(env, role);
      admin = await signIn(anonymous(), ADMIN);
    },
    async close() {
      await Promise.all(others.map(other => other.close()));
      await application.close();
      await model?.close();
      await database.drop();
    },
  };
  return test;
}

export async function signIn(
  client: Client,
  { email, password }: { email: string; password: string },
): Promise<Client> {
  const { body } = await expectStatus(200, client.post('/auth/login', { email, password }));
  return client.withToken(body.access_token);
}

/** For steps that are not what a test is about: fails with the whole answer. */
export async function expectStatus<T extends { status: number; body: unknown }>(
  status: number,
  answer: Promise<T>,
): Promise<T> {
  const got = await answer;
  if (got.status !== status)
    throw new Error(`Expected ${status}, got ${got.status}: ${JSON.stringify(got.body)}`);
  return got;
}

async function flushRedis(url: string): Promise<void> {
  const redis = new Redis(url);
  await redis.flushdb();
  await redis.quit();
}
