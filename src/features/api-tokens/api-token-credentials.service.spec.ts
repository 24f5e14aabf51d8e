import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { TEST_SECRET, type TestDatabase, createTestDatabase } from '../../../test/setup/database.js';
import { asSuperuser } from '../../../test/setup/superuser.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { CasbinRule, CasbinRulesRepository } from '../../core/authorization/casbin-rules.repository.js';
import { MemberFactsRepository } from '../../core/authorization/member-facts.repository.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TENANT_TOPIC, TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { type Env, parseEnv } from '../../foundation/config/env.js';
import { hashSecret } from '../../foundation/crypto/opaque-token.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import { type DatabaseAccess, openDatabase } from '../../foundation/database/data-source.js';
import { USER_TOPIC } from '../users/user-sessions.service.js';
import { newSecret, prefixOf } from './api-token.js';
import { ApiTokenCredentialsRepository } from './api-token-credentials.repository.js';
import { ApiTokenCredentials } from './api-token-credentials.service.js';
import { ApiTokenUses } from './api-token-uses.service.js';
import { API_TOKEN_TOPIC } from './api-tokens.service.js';

const TENANT = randomUUID();
const USER = randomUUID();

let testDatabase: TestDatabase;
let env: Env;
let access: DatabaseAccess;
let dataSource: DataSource;
let database: PlatformDatabase;
let repository: ApiTokenCredentialsRepository;
let changes: ChangeFeed;
let credentials: ApiTokenCredentials;

beforeAll(async () => {
  testDatabase = await createTestDatabase();
  env = parseEnv({ ...testDatabase.env, JWT_SECRET: TEST_SECRET, ENCRYPTION_KEY: TEST_SECRET });
  access = await openDatabase(env, TEST_SECRET);
  dataSource = access.application([CasbinRule]);
  await dataSource.initialize();
  database = new PlatformDatabase(dataSource);
  repository = new ApiTokenCredentialsRepository();
  changes = new ChangeFeed(access.url);
  const authorization = new AuthorizationService(
    env,
    database,
    new CasbinRulesRepository(),
    new MemberFactsRepository(),
    changes,
  );
  const directory = new TenantDirectory(database, changes);
  credentials = new ApiTokenCredentials(database, repository, changes, directory, authorization);
  for (const service of [authorization, directory, credentials]) service.onModuleInit();
  await superuser(`
    INSERT INTO users (id, email, display_name) VALUES ('${USER}', '${USER}@example.com', 'Somebody');
    INSERT INTO tenants (id, name, display_name) VALUES ('${TENANT}', 't-${TENANT}', 'Tenant');
    INSERT INTO members (tenant_id, user_id) VALUES ('${TENANT}', '${USER}');
    INSERT INTO casbin_rule (ptype, v0, v1, v2) VALUES ('g', '${USER}', 'editor', '${tenantDomain(TENANT)}')`);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});
afterAll(async () => {
  await dataSource.destroy();
  await access.close();
  await testDatabase.drop();
});

const superuser = (statements: string): Promise<any[]> =>
  asSuperuser(env, dataSource, async client => (await client.query(statements)).rows);
const publish = (topic: string, key: string) => database.run(tx => changes.publish(tx, topic, key));

async function issue(fields: Record<string, string> = {}): Promise<{ id: string; secret: string }> {
  const id = randomUUID();
  const secret = newSecret('live');
  const columns = { scopes: `'{kb:read,tenant:manage}'`, created_by: `'${USER}'`, ...fields };
  await superuser(`
    INSERT INTO api_tokens (id, tenant_id, name, kind, ${Object.keys(columns).join(', ')})
      VALUES ('${id}', '${TENANT}', '${id}', 'live', ${Object.values(columns).join(', ')});
    INSERT INTO api_token_secrets (prefix, tenant_id, token_id, hash)
      VALUES ('${prefixOf(secret)}', '${TENANT}', '${id}', '\\x${hashSecret(secret).toString('hex')}')`);
  return { id, secret };
}

describe('the holder of a secret', () => {
  it('is the token, with what it may do', async () => {
    const { id, secret } = await issue({
      monthly_credit_budget: '9007199254740991',
      kb_ids: `'{${TENANT}}'`,
    });
    expect(await credentials.principalOf(secret)).toEqual({
      kind: 'api_token',
      tokenId: id,
      name: id,
      userId: USER,
      tenantId: TENANT,
      tokenKind: 'live',
      scopes: new Set(['kb:read', 'tenant:manage']),
      kbIds: [TENANT],
      agentIds: null,
      rateLimitPerMinute: 60,
      monthlyCreditBudget: Number.MAX_SAFE_INTEGER,
    });
  });

  it('is looked up once, and then remembered', async () => {
    const { secret } = await issue();
    const find = vi.spyOn(repository, 'find');
    for (let i = 0; i < 3; i++) expect(await credentials.principalOf(secret)).not.toBeNull();
    expect(find).toHaveBeenCalledOnce();
  });

  it('is nobody with another secret that begins alike, and asks the database nothing', async () => {
    const { secret } = await issue();
    await credentials.principalOf(secret);
    const find = vi.spyOn(repository, 'find');
    const wrong = secret.slice(0, 16) + newSecret('live').slice(16);
    expect(await credentials.principalOf(wrong)).toBeNull();
    for (const text of ['', 'rk_live_', 'eyJhbGciOiJIUzI1NiJ9.e30.x'])
      expect(await credentials.principalOf(text)).toBeNull();
    expect(find).not.toHaveBeenCalled();
  });

  it('fills no memory by guessing', async () => {
    const { known } = credentials as unknown as { known: { size: number } };
    const before = known.size;
    for (let i = 0; i < 50; i++) expect(await credentials.principalOf(newSecret('live'))).toBeNull();
    expect(known.size).toBe(before);
  });

  it('is nobody once its time is up, remembered or not', async () => {
    const { secret } = await issue({ expires_at: `now() + interval '1 hour'` });
    expect(await credentials.principalOf(secret)).not.toBeNull();
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    expect(await credentials.principalOf(secret)).toBeNull();
  });

  it.each([
    [
      'it was stopped',
      (id: string) => `UPDATE api_tokens SET is_active = false WHERE id = '${id}'`,
      API_TOKEN_TOPIC,
    ],
    ['it was deleted', (id: string) => `DELETE FROM api_tokens WHERE id = '${id}'`, API_TOKEN_TOPIC],
    [
      'its creator may not sign in',
      () => `UPDATE users SET is_active = false WHERE id = '${USER}'`,
      USER_TOPIC,
    ],
    [
      'its tenant is being erased',
      () => `UPDATE tenants SET status = 'erasing' WHERE id = '${TENANT}'`,
      TENANT_TOPIC,
    ],
  ])('is nobody once %s, and somebody says so', async (_, statement, topic) => {
    const { id, secret } = await issue();
    expect(await credentials.principalOf(secret)).not.toBeNull();
    await superuser(statement(id));
    expect(await credentials.principalOf(secret)).not.toBeNull();
    await publish(
      topic,
      { [API_TOKEN_TOPIC]: id, [USER_TOPIC]: USER, [TENANT_TOPIC]: TENANT }[topic] as string,
    );
    expect(await credentials.principalOf(secret)).toBeNull();
    await superuser(`UPDATE users SET is_active = true; UPDATE tenants SET status = 'active'`);
    await publish(TENANT_TOPIC, TENANT);
  });

  it('is not remembered as it was before a change that came meanwhile', async () => {
    const { id, secret } = await issue();
    const find = repository.find.bind(repository);
    vi.spyOn(repository, 'find').mockImplementationOnce(async (tx, prefix) => {
      const found = await find(tx, prefix);
      await changes.publish(tx, API_TOKEN_TOPIC, randomUUID());
      return found;
    });
    const asked = credentials.principalOf(secret);
    await publish(API_TOKEN_TOPIC, id);
    await asked;
    await superuser(`DELETE FROM api_tokens WHERE id = '${id}'`);
    expect(await credentials.principalOf(secret)).toBeNull();
  });
});

describe('the use of a token', () => {
  const lastUsed = async (id: string): Promise<Date | null> =>
    (await superuser(`SELECT last_used_at AS at FROM api_tokens WHERE id = '${id}'`))[0].at;
  const written = (uses: ApiTokenUses) => uses.beforeApplicationShutdown();

  it('is written at most once a minute, by all processes together', async () => {
    const { id } = await issue();
    const [here, there] = [new ApiTokenUses(database, repository), new ApiTokenUses(database, repository)];
    const now = Date.now();
    vi.useFakeTimers({ toFake: ['Date'], now });
    const write = vi.spyOn(repository, 'writeUses');
    for (let i = 0; i < 10; i++) here.note(id);
    await written(here);
    expect((await lastUsed(id))?.getTime()).toBe(now);
    vi.setSystemTime(now + 30_000);
    here.note(id);
    await written(here);
    expect(write).toHaveBeenCalledOnce();
    there.note(id);
    await written(there);
    expect((await lastUsed(id))?.getTime()).toBe(now);
    vi.setSystemTime(now + 60_000);
    const later = new ApiTokenUses(database, repository);
    later.note(id);
    await written(later);
    expect((await lastUsed(id))?.getTime()).toBe(now + 60_000);
  });

  it('is written the next time where it could not be', async () => {
    const { id } = await issue();
    const uses = new ApiTokenUses(database, repository);
    vi.spyOn(repository, 'writeUses').mockRejectedValueOnce(new Error('The database is away.'));
    uses.note(id);
    await written(uses);
    expect(await lastUsed(id)).toBeNull();
    uses.note(id);
    await written(uses);
    expect(await lastUsed(id)).not.toBeNull();
  });
});
