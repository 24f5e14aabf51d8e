/**
 * Usage of one tenant with a million events over 90 days, among others: how long it takes to read it over HTTP, and to
 * write it.
 *
 *   npm run bench -- usage [--events 1000000] [--repeat 200]
 *
 * Runs on a database of its own on the server of DATABASE_ADMIN_URL, or embedded without one.
 */
import { parseArgs } from 'node:util';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { PlatformDatabase } from '../src/core/tenancy/platform-database.js';
import { type UsageEvent, toUsageRow } from '../src/core/usage/usage-event.js';
import { UsageRepository } from '../src/core/usage/usage.repository.js';
import { Client } from '../test/setup/client.js';
import { startServer } from './child-process.js';
import { ADMIN, type Installation, createInstallation } from './installation.js';

const { values: options } = parseArgs({
  options: { events: { type: 'string', default: '1000000' }, repeat: { type: 'string', default: '200' } },
});
const EVENTS = Number(options.events);
const REPEAT = Number(options.repeat);
const DAYS = 90;
const OTHERS = { tenants: 9, share: 0.02 };
const BATCH = 10_000;
const FLUSHES = { batches: [10, 100, 1000], repeat: 100 };
const TENANT = 'measured';
const DAY_MS = 24 * 3_600_000;

interface Tenant {
  id: string;
  users: string[];
  kbs: string[];
  tokens: string[];
}

const installation = await createInstallation(process.env['DATABASE_ADMIN_URL']);
try {
  await installation.migrate();
  await withDatabase(installation, async dataSource => {
    const tenant = await createTenant(dataSource, TENANT);
    const others: Tenant[] = [];
    for (let i = 0; i < OTHERS.tenants; i++) others.push(await createTenant(dataSource, `other-${i}`));
    await fill(dataSource, tenant, others);
    await measureFlush(dataSource, [tenant, ...others]);
  });
  await measureReading(installation);
} finally {
  await installation.remove();
}

async function withDatabase(
  target: Installation,
  work: (dataSource: DataSource) => Promise<void>,
): Promise<void> {
  const access = await target.open();
  // Of the superuser, for whom every role can be taken: the tenants are made with it, and the usage as the platform.
  const dataSource = access.administration();
  await dataSource.initialize();
  await work(dataSource);
  await dataSource.query('VACUUM ANALYZE');
  await dataSource.destroy();
  await access.close();
}

async function createTenant(dataSource: DataSource, name: string): Promise<Tenant> {
  const id = uuidv7();
  const ids = (count: number) => Array.from({ length: count }, () => uuidv7());
  const [users, kbs, tokens] = [ids(50), ids(5), ids(3)];
  await dataSource.query(
    `INSERT INTO tenants (id, name, display_name, plan_tier) VALUES ($1, $2, $2, 'enterprise')`,
    [id, name],
  );
  await dataSource.query(
    `INSERT INTO users (id, email, display_name, password_hash)
     SELECT id, id || '@enclave.bench', 'Somebody', '' FROM unnest($1::uuid[]) AS id`,
    [users],
  );
  await dataSource.query(
    'INSERT INTO members (tenant_id, user_id) SELECT $1, id FROM unnest($2::uuid[]) AS id',
    [id, users],
  );
  await dataSource.query(
    `INSERT INTO knowledge_bases (id, tenant_id, name, slug)
     SELECT id, $1, 'Kb ' || id, 'kb-' || id FROM unnest($2::uuid[]) AS id`,
    [id, kbs],
  );
  return { id, users, kbs, tokens };
}

async function fill(dataSource: DataSource, tenant: Tenant, others: readonly Tenant[]): Promise<void> {
  const database = new PlatformDatabase(dataSource);
  const repository = new UsageRepository();
  const started = performance.now();
  const total = Math.round(EVENTS * (1 + OTHERS.tenants * OTHERS.share));
  for (let written = 0; written < total; written += BATCH) {
    const rows = Array.from({ length: Math.min(BATCH, total - written) }, (_, i) => {
      const number = written + i;
      const whose = number < EVENTS ? tenant : (others[number % others.length] as Tenant);
      // In their order, as they come; each tenant's over the whole time.
      const part = number < EVENTS ? number / EVENTS : (number - EVENTS) / Math.max(1, total - EVENTS);
      return toUsageRow(randomEvent(whose, new Date(Date.now() - (1 - part) * DAYS * DAY_MS)));
    });
    await database.run(tx => repository.record(tx, rows));
  }
  await dataSource.query('VACUUM ANALYZE');
  const seconds = (performance.now() - started) / 1000;
  console.log(`${total} events in batches of ${BATCH}: ${Math.round(total / seconds)} a second`);
  const sizes: Array<Record<string, string>> = await dataSource.query(
    `SELECT relname AS table, reltuples::int AS rows, pg_size_pretty(pg_total_relation_size(oid)) AS size
     FROM pg_class WHERE relname LIKE 'usage%' AND relkind = 'r' ORDER BY pg_total_relation_size(oid) DESC`,
  );
  console.table(Object.fromEntries(sizes.map(({ table, ...rest }) => [table, rest])));
}

async function measureFlush(dataSource: DataSource, tenants: readonly Tenant[]): Promise<void> {
  const database = new PlatformDatabase(dataSource);
  const repository = new UsageRepository();
  const rows: Array<[string, object]> = [];
  for (const size of FLUSHES.batches) {
    const latencies: number[] = [];
    for (let i = 0; i < FLUSHES.repeat; i++) {
      const batch = Array.from({ length: size }, () =>
        toUsageRow(randomEvent(randomItem(tenants), new Date())),
      );
      const begun = performance.now();
      await database.run(tx => repository.record(tx, batch));
      latencies.push(performance.now() - begun);
    }
    rows.push([`flush of ${size} events`, figures(latencies)]);
  }
  console.table(Object.fromEntries(rows));
}

async function measureReading(target: Installation): Promise<void> {
  const server = await startServer('dist/src/main.js', target.settings);
  try {
    const anonymous = new Client(server.url);
    const admin = anonymous.withToken((await anonymous.post('/auth/login', ADMIN)).body.access_token);
    const paths = [
      'metrics?period=24h',
      'metrics?period=30d',
      'metrics?period=90d',
      ...['day', 'kb', 'member', 'token', 'model'].map(group => `usage?group_by=${group}&period=30d`),
      'usage?group_by=member&period=90d',
      'usage?group_by=hour&period=90d',
    ].map(path => `/tenants/${TENANT}/${path}`);
    paths.push('/analytics/tenants?metric=queries&period=30d');
    const rows: Array<[string, object]> = [];
    for (const path of paths) {
      const latencies: number[] = [];
      for (let i = -REPEAT / 10; i < REPEAT; i++) {
        const begun = performance.now();
        const { status, body } = await admin.get(path);
        if (status !== 200) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
        if (i >= 0) latencies.push(performance.now() - begun);
      }
      rows.push([path.replace(`/tenants/${TENANT}/`, ''), figures(latencies)]);
    }
    console.table(Object.fromEntries(rows));
  } finally {
    await server.stop();
  }
}

/** As a tenant's days are: mostly searches, some failures, durations over four orders of magnitude. */
function randomEvent({ id, users, kbs, tokens }: Tenant, time: Date): UsageEvent {
  const kind = Math.random();
  const common = {
    tenantId: id,
    time,
    userId: randomItem(users),
    durationMs: 10 ** (Math.random() * 4 - 1),
    outcome: Math.random() < 0.02 ? ('failure' as const) : ('success' as const),
    status: 200,
  };
  const token = Math.random() < 0.3 ? { tokenId: randomItem(tokens), tokenKind: 'live' as const } : {};
  const kbId = randomItem(kbs);
  if (kind < 0.5)
    return {
      ...common,
      ...token,
      kbId,
      operation: 'search',
      model: 'embedder',
      embeddingTokens: 12,
      credits: 100,
    };
  if (kind < 0.65) {
    const model = randomItem(['small', 'large']);
    return {
      ...common,
      ...token,
      kbId,
      operation: 'query',
      model,
      inputTokens: 900,
      outputTokens: 120,
      credits: 5_000,
    };
  }
  if (kind < 0.95) return { ...common, ...token, operation: randomItem(['document.read', 'kb.read', 'api']) };
  return {
    ...common,
    status: null,
    kbId,
    operation: 'document.ingest',
    model: 'embedder',
    embeddingTokens: 4_000,
  };
}

function randomItem<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)] as T;
}

function figures(latencies: number[]): object {
  const sorted = latencies.toSorted((a, b) => a - b);
  const percentile = (share: number) => sorted[Math.floor((sorted.length - 1) * share)]?.toFixed(2);
  return { 'p50 ms': percentile(0.5), 'p99 ms': percentile(0.99) };
}
