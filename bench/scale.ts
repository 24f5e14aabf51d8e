/**
 * What grows with the number of tenants: authorization and its memory, and the first and last pages of the three long
 * lists, through HTTP on one process. Side by side with 100 tenants and with 10,000, of ten members each, beside which
 * one tenant has 10,000 members and one an audit of 100,000 entries.
 *
 *   DATABASE_ADMIN_URL=… npm run bench -- scale [--tenants 100,10000] [--requests 150]
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { DataSource } from 'typeorm';
import { AuthorizationService } from '../src/core/authorization/authorization.service.js';
import { CasbinRule, CasbinRulesRepository } from '../src/core/authorization/casbin-rules.repository.js';
import { MemberFactsRepository } from '../src/core/authorization/member-facts.repository.js';
import { type Permission, tenantDomain } from '../src/core/authorization/permissions.js';
import { PlatformDatabase } from '../src/core/tenancy/platform-database.js';
import { parseEnv } from '../src/foundation/config/env.js';
import { ChangeFeed } from '../src/foundation/database/change-feed.js';
import { Client } from '../test/setup/client.js';
import { startServer } from './child-process.js';
import { ADMIN, type Installation, createInstallation } from './installation.js';

const { values: options } = parseArgs({
  options: {
    tenants: { type: 'string', default: '100,10000' },
    requests: { type: 'string', default: '150' },
  },
});
const MEMBERS_PER_TENANT = 10;
const LARGE_MEMBERS = 10_000;
const AUDIT_ENTRIES = 100_000;
const PAGE_SIZE = 20;
const WARM_UP_REQUESTS = 30;
const WARM_UP_DOMAINS = 500;
const WARM_QUESTIONS = 200_000;
const PERMISSIONS: Permission[] = ['tenant:read', 'tenant:manage', 'kb:read', 'kb:create', 'query:run'];
const LARGE = 'large-tenant';

/** By what was measured. */
type Figures = Map<string, string>;
const TARGETS: Figures = new Map();

const adminUrl = process.env['DATABASE_ADMIN_URL'];
if (!adminUrl) {
  console.log('DATABASE_ADMIN_URL is not set: this many tenants belong on a server.');
  process.exit(0);
}
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const columns: Array<[title: string, figures: Figures]> = [];
for (const count of options.tenants.split(',').map(Number)) {
  columns.push([`${count.toLocaleString('en')} tenants`, await measure(adminUrl, count)]);
}
const [first] = columns;
console.table(
  Object.fromEntries(
    [...(first?.[1].keys() ?? [])].map(name => [
      name,
      {
        ...Object.fromEntries(columns.map(([title, figures]) => [title, figures.get(name)])),
        target: TARGETS.get(name) ?? '',
      },
    ]),
  ),
);
console.log('Lists: p50 / p95 in ms, through HTTP, one request at a time.');

async function measure(serverUrl: string, tenants: number): Promise<Figures> {
  const installation = await createInstallation(serverUrl);
  try {
    await installation.migrate();
    await fill(installation, tenants);
    return new Map([
      ...(await measureAuthorization(installation, tenants)),
      ...(await measureLists(installation, tenants)),
    ]);
  } finally {
    await installation.remove();
  }
}

/** Set by set, since row by row would take longer than everything that is measured. */
async function fill(installation: Installation, tenants: number): Promise<void> {
  const access = await installation.open();
  const dataSource = access.administration();
  await dataSource.initialize();
  await fillTenants(dataSource, tenants);
  await fillLargeTenant(dataSource);
  await dataSource.query('VACUUM ANALYZE');
  await dataSource.destroy();
  await access.close();
}

function insertUsers(prefix: string): string {
  return `
  INSERT INTO users (id, email, display_name, password_hash)
  SELECT gen_random_uuid(), '${prefix}' || n || '@enclave.bench', 'Person ' || n, 'none' FROM generate_series(1, $1::int) n`;
}

async function fillTenants(dataSource: DataSource, tenants: number): Promise<void> {
  await dataSource.query(insertUsers('person-'), [tenants * MEMBERS_PER_TENANT]);
  await dataSource.query(
    `INSERT INTO tenants (id, name, display_name, plan_tier, created_at)
     SELECT gen_random_uuid(), 'tenant-' || n, 'Tenant ' || n, 'enterprise', now() - make_interval(secs => n)
     FROM generate_series(1, $1::int) n`,
    [tenants],
  );
  // The n-th ten people belong to the n-th tenant: an owner, an admin, three editors, five viewers.
  await dataSource.query(
    `CREATE TABLE bench_members AS
     SELECT t.id AS tenant_id, u.id AS user_id, u.place,
            CASE u.place WHEN 0 THEN 'owner' WHEN 1 THEN 'admin' WHEN 2 THEN 'editor' WHEN 3 THEN 'editor'
                         WHEN 4 THEN 'editor' ELSE 'viewer' END AS role
     FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM tenants) t
     JOIN (SELECT id, (row_number() OVER (ORDER BY id) - 1) / $1::int AS n,
                  (row_number() OVER (ORDER BY id) - 1) % $1::int AS place FROM users) u USING (n)`,
    [MEMBERS_PER_TENANT],
  );
  await join(dataSource);
}

async function fillLargeTenant(dataSource: DataSource): Promise<void> {
  await dataSource.query(
    `INSERT INTO tenants (id, name, display_name, plan_tier) VALUES (gen_random_uuid(), $1, $1, 'enterprise')`,
    [LARGE],
  );
  await dataSource.query(insertUsers('one-of-many-'), [LARGE_MEMBERS]);
  await dataSource.query(
    `CREATE TABLE bench_members AS
     SELECT t.id AS tenant_id, u.id AS user_id, 0 AS place, 'viewer' AS role
     FROM tenants t, users u WHERE t.name = $1 AND u.email LIKE 'one-of-many-%'`,
    [LARGE],
  );
  await join(dataSource);
  // Hashes that nobody checks here.
  await dataSource.query(
    `INSERT INTO audit_chains (chain_id, sequence, hash) SELECT id, $2, repeat('a', 64) FROM tenants WHERE name = $1`,
    [LARGE, AUDIT_ENTRIES],
  );
  await dataSource.query(
    `INSERT INTO audit_entries (chain_id, sequence, occurred_at, actor_type, actor_id, actor_name, action, resource_type,
                                resource_id, details, outcome, ip, request_id, prev_hash, hash)
     SELECT t.id, n, now() - make_interval(secs => ($2::int - n) * 60), 'user', u.ids[1 + n % 100],
            'person-' || n % 100 || '@enclave.bench',
            (ARRAY['member.added', 'member.removed', 'member.roles_changed', 'kb.created', 'kb.updated',
                   'document.created', 'document.deleted', 'request.denied'])[1 + n % 8],
            (ARRAY['member', 'kb', 'document'])[1 + n % 3], 'thing-' || n % 5000,
            jsonb_build_object('before', jsonb_build_object('role', 'viewer'), 'after', jsonb_build_object('role', 'editor')),
            CASE WHEN n % 50 = 0 THEN 'denied' ELSE 'allowed' END, '203.0.113.7', gen_random_uuid()::text,
            repeat('a', 64), repeat('a', 64)
     FROM generate_series(1, $2::int) n, tenants t,
          (SELECT array_agg(id) AS ids FROM (SELECT id FROM users LIMIT 100) AS chosen) u
     WHERE t.name = $1`,
    [LARGE, AUDIT_ENTRIES],
  );
}

/** Makes members of `bench_members`, with their roles. */
async function join(dataSource: DataSource): Promise<void> {
  await dataSource.query(`
    INSERT INTO members (tenant_id, user_id, joined_at)
    SELECT tenant_id, user_id, now() - make_interval(secs => row_number() OVER (ORDER BY user_id)) FROM bench_members`);
  await dataSource.query(`
    INSERT INTO casbin_rule (ptype, v0, v1, v2)
    SELECT 'g', user_id::text, role, 'tenant_' || tenant_id FROM bench_members`);
  await dataSource.query('DROP TABLE bench_members');
}

async function measureAuthorization(installation: Installation, tenants: number): Promise<Figures> {
  const access = await installation.open();
  const dataSource = access.application([CasbinRule]);
  await dataSource.initialize();
  const database = new PlatformDatabase(dataSource);
  const env = parseEnv(installation.settings);
  const createService = () => {
    const service = new AuthorizationService(
      env,
      database,
      new CasbinRulesRepository(),
      new MemberFactsRepository(),
      new ChangeFeed(null),
    );
    service.onModuleInit();
    return service;
  };
  const members: Array<{ domain: string; userId: string }> = (
    await database.run(tx =>
      tx.query(
        `SELECT m.tenant_id AS "tenantId", m.user_id AS "userId" FROM members m JOIN tenants t ON t.id = m.tenant_id
         WHERE t.name <> $1 ORDER BY m.tenant_id`,
        [LARGE],
      ),
    )
  ).map(({ tenantId, userId }: { tenantId: string; userId: string }) => ({
    domain: tenantDomain(tenantId),
    userId,
  }));

  // The code is compiled by others that remember nothing for the one that is measured.
  for (let asked = 0; asked < WARM_UP_DOMAINS; asked += tenants) {
    const another = createService();
    for (let index = 0; index < Math.min(tenants, WARM_UP_DOMAINS); index++)
      await ask(another, members[index * MEMBERS_PER_TENANT], 'tenant:read');
  }
  const authorization = createService();
  const before = heap();
  const cold: number[] = [];
  for (let index = 0; index < members.length; index += MEMBERS_PER_TENANT)
    cold.push(await ask(authorization, members[index], 'tenant:read'));
  const afterAll = heap();
  // The same again, of as many tenants as are held: what is more than that was forgotten, and takes no memory.
  const held = members.slice(-Math.min(tenants, env.authorizationCacheSize) * MEMBERS_PER_TENANT);
  for (const member of held) {
    for (const permission of PERMISSIONS) await ask(authorization, member, permission);
  }
  const afterHeld = heap();
  const warm: number[] = [];
  for (let i = 0; i < WARM_QUESTIONS; i++)
    warm.push(await ask(authorization, randomItem(held), randomItem(PERMISSIONS)));
  await dataSource.destroy();
  await access.close();

  const microseconds = (values: number[], share: number) => (percentile(values, share) * 1000).toFixed(1);
  TARGETS.set('authorization, asked before, p50 µs', '≤ 30');
  TARGETS.set('authorization, first of a tenant, p50 ms', '≤ 5');
  return new Map([
    ['authorization, asked before, p50 µs', microseconds(warm, 0.5)],
    ['authorization, asked before, p99 µs', microseconds(warm, 0.99)],
    ['authorization, first of a tenant, p50 ms', percentile(cold, 0.5).toFixed(2)],
    ['authorization, first of a tenant, p99 ms', percentile(cold, 0.99).toFixed(2)],
    ['heap after asking about every tenant, MB', megabytes(afterAll - before)],
    [
      `heap with all members of ${env.authorizationCacheSize.toLocaleString('en')} tenants at most, MB`,
      megabytes(afterHeld - before),
    ],
  ]);
}

async function ask(
  authorization: AuthorizationService,
  member: { domain: string; userId: string } | undefined,
  permission: Permission,
): Promise<number> {
  if (!member) throw new Error('There is no member to ask about.');
  const started = performance.now();
  await authorization.can(member.userId, member.domain, permission);
  return performance.now() - started;
}

async function measureLists(installation: Installation, tenants: number): Promise<Figures> {
  const server = await startServer('dist/src/main.js', {
    ...installation.settings,
    ACCESS_TOKEN_TTL_SECONDS: '3600',
  });
  try {
    const anonymous = new Client(server.url);
    const signedIn = await anonymous.post('/auth/login', ADMIN);
    const admin = anonymous.withToken(signedIn.body.access_token);
    const last = (total: number) => Math.ceil(total / PAGE_SIZE);
    const audit = `/tenants/${LARGE}/audit`;
    const today = new Date().toISOString().slice(0, 10);
    const lists: Array<[name: string, path: string, pages?: number]> = [
      ['tenants', '/tenants', last(tenants + 1)],
      [`members of ${LARGE_MEMBERS.toLocaleString('en')}`, `/tenants/${LARGE}/members`, last(LARGE_MEMBERS)],
      [`audit of ${AUDIT_ENTRIES.toLocaleString('en')}`, audit, last(AUDIT_ENTRIES)],
      ['audit, one action', `${audit}?action=kb.created`, last(AUDIT_ENTRIES / 8)],
      ['audit, actions by prefix', `${audit}?action=member.*`, last((AUDIT_ENTRIES * 3) / 8)],
      ['audit, what was denied', `${audit}?outcome=denied`, last(AUDIT_ENTRIES / 50)],
      ['audit, one thing', `${audit}?resource_id=thing-77`],
      ['audit, today', `${audit}?start_date=${today}`],
    ];
    const figures: Figures = new Map();
    for (const [name, path, pages] of lists) {
      for (const [title, page] of [
        ['page 1', 1] as const,
        ...(pages ? [['last page', pages] as const] : []),
      ]) {
        const url = `${path}${path.includes('?') ? '&' : '?'}page_size=${PAGE_SIZE}&page=${page}`;
        TARGETS.set(`${name}, ${title}`, '< 20');
        figures.set(`${name}, ${title}`, await request(admin, url));
      }
    }
    return figures;
  } finally {
    await server.stop();
  }
}

/** @returns p50 and p95 in milliseconds */
async function request(client: Client, path: string): Promise<string> {
  const latencies: number[] = [];
  for (let i = -WARM_UP_REQUESTS; i < Number(options.requests); i++) {
    const started = performance.now();
    const { status, body } = await client.get(path);
    if (status !== 200 || body.items.length === 0)
      throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
    if (i >= 0) latencies.push(performance.now() - started);
  }
  return `${percentile(latencies, 0.5).toFixed(1)} / ${percentile(latencies, 0.95).toFixed(1)}`;
}

function heap(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

function megabytes(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1);
}

function percentile(values: number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)] as number;
}

function randomItem<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)] as T;
}
