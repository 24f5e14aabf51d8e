import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { TEST_SECRET, type TestDatabase, createTestDatabase } from '../../../test/setup/database.js';
import { asSuperuser } from '../../../test/setup/superuser.js';
import { type Env, parseEnv } from '../../foundation/config/env.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import { type DatabaseAccess, openDatabase } from '../../foundation/database/data-source.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import type { ApiTokenPrincipal } from '../tenancy/tenant-context.js';
import { AuthorizationService } from './authorization.service.js';
import { MemberFactsRepository } from './member-facts.repository.js';
import { CasbinRule, CasbinRulesRepository } from './casbin-rules.repository.js';
import {
  BUILT_IN_ROLES,
  PERMISSIONS,
  PLATFORM_DOMAIN,
  type Permission,
  tenantDomain,
  userDomain,
} from './permissions.js';

let testDatabase: TestDatabase;
let env: Env;
let access: DatabaseAccess;
let dataSource: DataSource;
let database: PlatformDatabase;
let authorization: AuthorizationService;
/** A domain that nobody has asked for yet. */
let domain: string;

beforeAll(async () => {
  testDatabase = await createTestDatabase();
  env = parseEnv({ ...testDatabase.env, JWT_SECRET: TEST_SECRET, ENCRYPTION_KEY: TEST_SECRET });
  access = await openDatabase(env, TEST_SECRET);
  dataSource = access.application([CasbinRule]);
  await dataSource.initialize();
  database = new PlatformDatabase(dataSource);
  authorization = createService();
});
afterAll(async () => {
  await dataSource.destroy();
  await access.close();
  await testDatabase.drop();
});
beforeEach(async () => {
  domain = await createDomain();
});

function createService(settings: Partial<Env> = {}): AuthorizationService {
  const service = new AuthorizationService(
    { ...env, ...settings },
    database,
    new CasbinRulesRepository(),
    new MemberFactsRepository(),
    new ChangeFeed(access.url),
  );
  service.onModuleInit();
  return service;
}

async function createDomain(): Promise<string> {
  const id = randomUUID();
  await database.run(tx =>
    tx.query(
      `INSERT INTO tenants (id, name, display_name, plan_tier) VALUES ($1::uuid, $1::text, $1::text, 'enterprise')`,
      [id],
    ),
  );
  return tenantDomain(id);
}

const assign = (user: string, role: string, to = domain) =>
  database.run(tx => authorization.assignRole(tx, user, role, to));
const remove = (user: string, role: string, from = domain) =>
  database.run(tx => authorization.removeRole(tx, user, role, from));

const superuser = (statement: string, values: unknown[]) =>
  asSuperuser(env, dataSource, client => client.query(statement, values));

async function userWith(role: string, to = domain): Promise<string> {
  const user = randomUUID();
  await assign(user, role, to);
  return user;
}

const tenantOf = (where: string): string => where.slice('tenant_'.length);

const tokenOf = (userId: string, scopes: Permission[], kbIds: string[] | null = null): ApiTokenPrincipal => ({
  kind: 'api_token',
  tokenId: randomUUID(),
  name: 'A token',
  userId,
  tenantId: tenantOf(domain),
  tokenKind: 'live',
  scopes: new Set(scopes),
  kbIds,
  agentIds: null,
  rateLimitPerMinute: 60,
  monthlyCreditBudget: null,
});

const ASKING: Permission[] = ['tenant:read', 'query:run', 'chat:own'];
const READING: Permission[] = [...ASKING, 'kb:read', 'document:read', 'agent:read', 'graph:read'];
const EDITING: Permission[] = [
  ...READING,
  ...(['kb', 'document', 'agent'] as const).flatMap((object): Permission[] => [
    `${object}:create`,
    `${object}:update`,
    `${object}:delete`,
  ]),
];
const MANAGING: Permission[] = [
  ...EDITING,
  'tenant:manage',
  'tenant:manage_members',
  'tenant:manage_tokens',
  'tenant:manage_models',
  'tenant:manage_widgets',
  'tenant:manage_webhooks',
  'tenant:read_audit',
  'tenant:read_usage',
  'tenant:export',
  'chat:read_all',
];

/** What each built-in role may do in its tenant, and nothing else. */
const ROLES: Record<(typeof BUILT_IN_ROLES)[number], Permission[]> = {
  owner: [...MANAGING, 'tenant:manage_billing', 'tenant:delete'],
  admin: MANAGING,
  editor: EDITING,
  viewer: READING,
  viewer_readonly: ASKING,
};

describe('the built-in roles', () => {
  it.each(BUILT_IN_ROLES)('%s may do exactly what it should, in its own tenant alone', async role => {
    const user = await userWith(role);
    expect((await authorization.permissionsOf(user, domain)).toSorted()).toEqual(ROLES[role].toSorted());
    expect(await authorization.permissionsOf(user, await createDomain())).toEqual([]);
    expect(await authorization.permissionsOf(user, PLATFORM_DOMAIN)).toEqual([]);
  });

  it('add up', async () => {
    const user = await userWith('viewer_readonly');
    await assign(user, 'editor');
    expect((await authorization.permissionsOf(user, domain)).toSorted()).toEqual(EDITING.toSorted());
  });

  it('say nothing of those who have none', async () => {
    expect(await authorization.permissionsOf(randomUUID(), domain)).toEqual([]);
  });
});

describe('the roles of the platform', () => {
  const all = Object.keys(PERMISSIONS).toSorted();

  it('lets its admin do everything everywhere', async () => {
    const admin = await userWith('platform_admin', PLATFORM_DOMAIN);
    for (const where of [domain, PLATFORM_DOMAIN]) {
      expect((await authorization.permissionsOf(admin, where)).toSorted()).toEqual(all);
    }
  });

  it('lets its auditor read everything and change nothing', async () => {
    const auditor = await userWith('platform_auditor', PLATFORM_DOMAIN);
    const inTenant = await authorization.permissionsOf(auditor, domain);
    const reading = /:read(_\w+)?$/;
    expect(inTenant.every(permission => reading.test(permission))).toBe(true);
    expect(inTenant).toEqual(
      expect.arrayContaining(['tenant:read', 'tenant:read_audit', 'document:read', 'chat:read_all']),
    );
    const onPlatform = await authorization.permissionsOf(auditor, PLATFORM_DOMAIN);
    expect(onPlatform.toSorted()).toEqual(['platform:analytics', 'platform:audit', 'platform:read']);
  });

  it('are gone in every domain as soon as they are taken away', async () => {
    const admin = await userWith('platform_admin', PLATFORM_DOMAIN);
    expect(await authorization.can(admin, domain, 'tenant:delete')).toBe(true);
    await remove(admin, 'platform_admin', PLATFORM_DOMAIN);
    expect(await authorization.can(admin, domain, 'tenant:delete')).toBe(false);
  });

  it('come from no role of a tenant with the same name, which the database refuses', async () => {
    const impostor = randomUUID();
    for (const role of ['platform_admin', 'platform_auditor', 'self']) {
      await expect(assign(impostor, role)).rejects.toThrow(/casbin_rule_tenant_roles/);
      await expect(
        database.run(tx => authorization.defineRole(tx, role, domain, ['kb:read'])),
      ).rejects.toThrow(/casbin_rule_tenant_roles/);
    }
    expect(await authorization.permissionsOf(impostor, PLATFORM_DOMAIN)).toEqual([]);
    expect(await authorization.permissionsOf(impostor, domain)).toEqual([]);
  });
});

describe('one knowledge base', () => {
  let tenantId: string;
  /** Ids by slug. */
  let kbs: Record<'open' | 'closed', string>;

  beforeEach(async () => {
    tenantId = domain.slice('tenant_'.length);
    kbs = { open: randomUUID(), closed: randomUUID() };
    await superuser(
      `INSERT INTO knowledge_bases (id, tenant_id, name, slug, visibility)
       VALUES ($1, $3, 'Open', 'open', 'tenant'), ($2, $3, 'Closed', 'closed', 'granted')`,
      [kbs.open, kbs.closed, tenantId],
    );
  });

  async function member(
    role: string,
    grants: Partial<Record<'open' | 'closed', string>> = {},
  ): Promise<string> {
    const user = await userWith(role);
    await superuser(`INSERT INTO users (id, email, display_name, password_hash) VALUES ($1, $2, '', '')`, [
      user,
      `${user}@example.com`,
    ]);
    await superuser('INSERT INTO members (tenant_id, user_id) VALUES ($1, $2)', [tenantId, user]);
    for (const [kb, granted] of Object.entries(grants)) {
      await superuser(
        'INSERT INTO kb_grants (id, tenant_id, kb_id, user_id, role) VALUES (gen_random_uuid(), $1, $2, $3, $4)',
        [tenantId, kbs[kb as 'open' | 'closed'], user, granted],
      );
    }
    return user;
  }

  it('is widened by a grant where it is open, and ruled by it where it is closed', async () => {
    const viewer = await member('viewer', { open: 'editor', closed: 'viewer_readonly' });
    for (const kb of ['open', kbs.open, kbs.open.toUpperCase()]) {
      expect(await authorization.canInKb(viewer, tenantId, kb, 'document:create')).toBe(true);
      expect(await authorization.canInKb(viewer, tenantId, kb, 'graph:read')).toBe(true);
      expect(await authorization.canInKb(viewer, tenantId, kb, 'chat:read_all')).toBe(false);
    }
    for (const kb of ['closed', kbs.closed, kbs.closed.toUpperCase()]) {
      expect(await authorization.canInKb(viewer, tenantId, kb, 'query:run')).toBe(true);
      expect(await authorization.canInKb(viewer, tenantId, kb, 'kb:read')).toBe(false);
    }
    expect(await authorization.can(viewer, domain, 'document:create')).toBe(false);
    const admin = await member('admin', { closed: 'viewer_readonly' });
    expect(await authorization.canInKb(admin, tenantId, 'closed', 'kb:delete')).toBe(true);
  });

  it('is one in which a role may be given or not', async () => {
    const editor = await member('editor', { closed: 'viewer' });
    expect(await authorization.outranksInKb(editor, 'editor', tenantId, 'open')).toBe(true);
    expect(await authorization.outranksInKb(editor, 'admin', tenantId, 'open')).toBe(false);
    expect(await authorization.outranksInKb(editor, 'viewer', tenantId, 'closed')).toBe(true);
    expect(await authorization.outranksInKb(editor, 'editor', tenantId, 'closed')).toBe(false);
  });

  it('is to an API token what it is to its creator, as far as its scopes go', async () => {
    const creator = await member('viewer', { closed: 'editor' });
    const token = tokenOf(creator, ['kb:read', 'document:create', 'kb:delete']);
    const may = (kb: string, permission: Permission) =>
      authorization.canInKb(token, tenantId, kb, permission);
    expect(await may('closed', 'document:create')).toBe(true);
    expect(await may('open', 'document:create')).toBe(false);
    expect(await may('closed', 'document:update')).toBe(false);
    expect(await authorization.kbsGranted(token, tenantId, 'kb:delete')).toEqual([kbs.closed]);
    expect(await authorization.kbsGranted(token, tenantId, 'document:update')).toEqual([]);
    expect(await authorization.accessOf(token, tenantId)).toMatchObject({ member: true, all: false });
  });

  it('counts for a member who is suspended as little as the roles do', async () => {
    const viewer = await member('viewer', { open: 'editor' });
    expect(await authorization.rolesOf(viewer, tenantId)).toEqual({ tenant: ['viewer'], platform: [] });
    expect(await authorization.kbsGranted(viewer, tenantId, 'document:create')).toEqual([kbs.open]);
    await superuser(`UPDATE members SET status = 'suspended' WHERE user_id = $1`, [viewer]);
    await database.run(tx => authorization.policyChanged(tx, domain));
    await vi.waitFor(async () =>
      expect(await authorization.canInKb(viewer, tenantId, 'open', 'document:create')).toBe(false),
    );
    expect(await authorization.canInKb(viewer, tenantId, 'open', 'query:run')).toBe(false);
    expect(await authorization.kbsGranted(viewer, tenantId, 'kb:read')).toEqual([]);
    expect(await authorization.rolesOf(viewer, tenantId)).toEqual({ tenant: [], platform: [] });
  });
});

describe('an API token', () => {
  it('may do what is among its scopes and its creator may, in its own tenant', async () => {
    const creator = await userWith('editor');
    await assign(creator, 'owner', await createDomain());
    const token = tokenOf(creator, ['kb:read', 'tenant:delete', 'platform:tenants']);
    expect(await authorization.permissionsOf(token, domain)).toEqual(['kb:read']);
    await assign(creator, 'owner');
    expect(await authorization.permissionsOf(token, domain)).toEqual(['tenant:delete', 'kb:read']);
    for (const elsewhere of [await createDomain(), userDomain(creator), PLATFORM_DOMAIN])
      expect(await authorization.permissionsOf(token, elsewhere)).toEqual([]);
    await remove(creator, 'owner');
    await remove(creator, 'editor');
    expect(await authorization.permissionsOf(token, domain)).toEqual([]);
    const other = tenantOf(await createDomain());
    expect(await authorization.accessOf(token, other)).toMatchObject({ member: false, all: false });
  });

  it('that is kept to knowledge bases makes none, and gives nobody what it has there', async () => {
    const creator = await userWith('owner');
    const scopes: Permission[] = ['kb:create', 'kb:read', 'query:run', 'chat:own', 'tenant:read'];
    const [free, kept] = [tokenOf(creator, scopes), tokenOf(creator, scopes, [randomUUID()])];
    expect(await authorization.can(free, domain, 'kb:create')).toBe(true);
    expect(await authorization.can(kept, domain, 'kb:create')).toBe(false);
    // A token from before it was kept may have scopes that tell of all of them.
    const telling = tokenOf(creator, ['tenant:read_audit', 'tenant:manage_webhooks'], [randomUUID()]);
    expect(await authorization.permissionsOf(telling, domain)).toEqual([]);
    expect(await authorization.outranks(free, 'viewer_readonly', domain)).toBe(true);
    expect(await authorization.outranks(kept, 'viewer_readonly', domain)).toBe(false);
    expect(await authorization.givableBy(kept, domain)).toEqual(['tenant:read']);
  });
});

describe('what is one’s own', () => {
  it('is one’s own alone', async () => {
    const [user, other] = [randomUUID(), randomUUID()];
    expect(await authorization.permissionsOf(user, userDomain(user))).toEqual(['user:read', 'user:update']);
    expect(await authorization.permissionsOf(other, userDomain(user))).toEqual([]);
    expect(await authorization.permissionsOf(user, userDomain(other))).toEqual([]);
  });
});

describe('what is remembered', () => {
  it('is answered at once, and without a question to the database', async () => {
    const user = await userWith('viewer');
    for (const permission of ['kb:read', 'kb:delete'] as const)
      await authorization.can(user, domain, permission);
    const run = vi.spyOn(database, 'run');
    expect(authorization.can(user, domain, 'kb:read')).toBe(true);
    expect(authorization.can(user, domain, 'kb:delete')).toBe(false);
    expect(run).not.toHaveBeenCalled();
    run.mockRestore();
  });

  it('is forgotten when a role is given or taken away', async () => {
    const user = randomUUID();
    expect(await authorization.can(user, domain, 'kb:read')).toBe(false);
    await assign(user, 'viewer');
    expect(await authorization.can(user, domain, 'kb:read')).toBe(true);
    await remove(user, 'viewer');
    expect(await authorization.can(user, domain, 'kb:read')).toBe(false);
  });

  it('stays where the change was rolled back', async () => {
    const user = await userWith('viewer');
    expect(await authorization.can(user, domain, 'kb:read')).toBe(true);
    const failing = database.run(async tx => {
      await authorization.removeRole(tx, user, 'viewer', domain);
      throw new Error('rolled back');
    });
    await expect(failing).rejects.toThrow('rolled back');
    expect(authorization.can(user, domain, 'kb:read')).toBe(true);
  });

  it('is loaded once for all who ask at the same time', async () => {
    const user = await userWith('editor');
    const run = vi.spyOn(database, 'run');
    const answers = await Promise.all(
      Array.from({ length: 30 }, async () => authorization.can(user, domain, 'kb:create')),
    );
    expect(new Set(answers)).toEqual(new Set([true]));
    expect(run).toHaveBeenCalledTimes(1);
    run.mockRestore();
  });

  it('is right for many who ask at the same time', async () => {
    const users = await Promise.all(
      Array.from({ length: 15 }, (_, index) => userWith(BUILT_IN_ROLES[index % 5] as string)),
    );
    const answers = await Promise.all(users.map(user => authorization.permissionsOf(user, domain)));
    answers.forEach((permissions, index) => {
      expect(permissions.toSorted()).toEqual(ROLES[BUILT_IN_ROLES[index % 5] as 'owner'].toSorted());
    });
  });

  it('is never older than a committed change, whatever was being loaded meanwhile', async () => {
    const users = Array.from({ length: 4 }, () => randomUUID());
    for (let round = 0; round < 12; round++) {
      const given = round % 2 === 0;
      const meanwhile = users.map(async user => authorization.can(user, domain, 'kb:read'));
      await (given ? assign : remove)(users[0] as string, 'viewer');
      expect(await authorization.can(users[0] as string, domain, 'kb:read'), `round ${round}`).toBe(given);
      await Promise.all(meanwhile);
      expect(await authorization.can(users[0] as string, domain, 'kb:read'), `round ${round}, later`).toBe(
        given,
      );
    }
  });

  it('takes no more room than it may', async () => {
    const small = createService({ authorizationCacheSize: 1 });
    const user = await userWith('owner');
    const elsewhere = await createDomain();
    expect(await small.can(user, domain, 'tenant:delete')).toBe(true);
    expect(await small.can(user, elsewhere, 'tenant:delete')).toBe(false);
    expect(small.can(user, domain, 'tenant:delete')).toBeInstanceOf(Promise);
  });

  it('is not spoilt by a database that fails once', async () => {
    const user = await userWith('viewer');
    const run = vi.spyOn(database, 'run').mockRejectedValueOnce(new Error('the database is away'));
    await expect((async () => authorization.can(user, domain, 'kb:read'))()).rejects.toThrow('away');
    expect(await authorization.can(user, domain, 'kb:read')).toBe(true);
    run.mockRestore();
  });
});

describe('outranks', () => {
  it.each(BUILT_IN_ROLES)('lets %s hand on what it holds itself, and no more', async role => {
    const user = await userWith(role);
    const rank = BUILT_IN_ROLES.indexOf(role);
    const answers = await Promise.all(
      BUILT_IN_ROLES.map(other => authorization.outranks(user, other, domain)),
    );
    expect(answers).toEqual(BUILT_IN_ROLES.map((_, index) => index >= rank));
  });
});
