/**
 * What the audit costs where many write in one tenant at once: a change is one transaction of three statements, whose
 * entry belongs to the one chain of the tenant. Compared in turns, on one database:
 *
 * - no audit
 * - the chain's head is locked when the transaction begins
 * - the chain's head is locked by the last statement before COMMIT
 * - the chain's head is locked in one message with COMMIT: what the application does
 * - the entry is inserted unchained, for a job to seal later: what would be left if nobody ever waited
 *
 *   DATABASE_ADMIN_URL=… npm run bench -- audit [--seconds 4] [--writers 1,20]
 */
import { parseArgs } from 'node:util';
import { ClsServiceManager } from 'nestjs-cls';
import { v7 as uuidv7 } from 'uuid';
import type { DataSource } from 'typeorm';
import { AuditRepository } from '../src/core/audit/audit.repository.js';
import { AuditService } from '../src/core/audit/audit.service.js';
import { PlatformDatabase } from '../src/core/tenancy/platform-database.js';
import { EventsRepository } from '../src/core/events/events.repository.js';
import { EventsService } from '../src/core/events/events.service.js';
import { TenantContext } from '../src/core/tenancy/tenant-context.js';
import { TenantDatabase } from '../src/core/tenancy/tenant-database.js';
import { parseEnv } from '../src/foundation/config/env.js';
import { openDatabase } from '../src/foundation/database/data-source.js';
import type { Tx } from '../src/foundation/database/transaction.js';
import { createInstallation } from './installation.js';

const { values: options } = parseArgs({
  options: { seconds: { type: 'string', default: '4' }, writers: { type: 'string', default: '1,20' } },
});
/** A measurement is this many turns; between them the other ways have theirs. */
const TURNS = 2;
const WARM_UP_SECONDS = 0.5;
const TENANTS = 20;

const adminUrl = process.env['DATABASE_ADMIN_URL'];
if (!adminUrl) {
  console.log('DATABASE_ADMIN_URL is not set: on the embedded database there is one writer at a time.');
  process.exit(0);
}

interface Measured {
  seconds: number;
  /** Milliseconds of each transaction, and what of these it spent beside its change: waiting, appending, committing. */
  latencies: number[];
  waits: number[];
}

interface Tenant {
  id: string;
  name: string;
}
type Way = (tx: Tx, tenant: Tenant, change: (tx: Tx) => Promise<void>) => Promise<void>;

const installation = await createInstallation(adminUrl);
try {
  await installation.migrate();
  const access = await openDatabase(
    parseEnv({ ...installation.settings, DATABASE_POOL_SIZE: '20' }),
    installation.settings['JWT_SECRET'] as string,
  );
  const dataSource = access.application([]);
  await dataSource.initialize();
  await measureAll(dataSource);
  await dataSource.destroy();
  await access.close();
} finally {
  await installation.remove();
}

async function measureAll(dataSource: DataSource): Promise<void> {
  const context = new TenantContext(ClsServiceManager.getClsService());
  const platform = new PlatformDatabase(dataSource);
  const database = new TenantDatabase(dataSource, context);
  const repository = new AuditRepository();
  const audit = new AuditService(
    context,
    platform,
    repository,
    new EventsService(context, new EventsRepository()),
  );
  const tenants = await createTenants();
  const event = (tenant: Tenant) => ({
    action: 'tenant.updated',
    resource: { type: 'tenant', id: tenant.id },
    details: { before: { description: 'what it said before' }, after: { description: 'what it says now' } },
  });

  const ways: Record<string, Way> = {
    'no audit': (tx, _, change) => change(tx),
    'head locked at the beginning': async (tx, { id }, change) => {
      await tx.query('SELECT FROM audit_chains WHERE chain_id = $1 FOR UPDATE', [id]);
      await change(tx);
      await tx.query(repository.appendStatement(id, [toEntry(id)]));
    },
    'head locked by the last statement': async (tx, { id }, change) => {
      await change(tx);
      await tx.query(repository.appendStatement(id, [toEntry(id)]));
    },
    'head locked with COMMIT (ours)': async (tx, tenant, change) => {
      await change(tx);
      audit.record(tx, event(tenant));
    },
    'unchained, sealed later': async (tx, { id }, change) => {
      await change(tx);
      await tx.query(
        `INSERT INTO audit_entries (chain_id, sequence, occurred_at, actor_type, action, resource_type, resource_id,
                                    details, outcome, prev_hash, hash)
         VALUES ($1::uuid, nextval('bench_sequence'), now(), 'system', 'tenant.updated', 'tenant', $1::uuid::text,
                 $2, 'allowed', '', '')`,
        [id, JSON.stringify(event({ id, name: '' }).details)],
      );
    },
  };
  const toEntry = (id: string) => ({
    tenant_id: id,
    time: new Date().toISOString(),
    actor: { type: 'system', id: null, name: null },
    ...event({ id, name: '' }),
    outcome: 'allowed' as const,
    ip: null,
    request_id: null,
  });

  for (const [title, writers, chains] of plans()) {
    const results = new Map(
      Object.keys(ways).map(name => [name, { seconds: 0, latencies: [], waits: [] } as Measured]),
    );
    for (let turn = 0; turn < TURNS; turn++) {
      for (const [name, way] of Object.entries(ways)) {
        const result = results.get(name) as Measured;
        const run = (seconds: number) =>
          write(seconds, writers, (writer, onChanged) => {
            const tenant = tenants[writer % chains] as Tenant;
            return context.runAsSystem(tenant, () =>
              database.run(tx =>
                way(tx, tenant, async inner => {
                  const begun = performance.now();
                  await makeChange(inner, tenant, writer);
                  onChanged(performance.now() - begun);
                }),
              ),
            );
          });
        await run(WARM_UP_SECONDS);
        const { elapsed, latencies, waits } = await run(Number(options.seconds) / TURNS);
        result.seconds += elapsed;
        result.latencies.push(...latencies);
        result.waits.push(...waits);
      }
    }
    console.log(title);
    const [baseline] = results.values();
    const rate = ({ latencies, seconds }: Measured) => latencies.length / seconds;
    console.table(
      Object.fromEntries(
        [...results].map(([name, result]) => {
          const row = {
            'writes/s': Math.round(rate(result)),
            ratio: (rate(result) / rate(baseline as Measured)).toFixed(2),
            'p50 ms': percentile(result.latencies, 0.5),
            'p99 ms': percentile(result.latencies, 0.99),
            'waiting p50': percentile(result.waits, 0.5),
            'waiting p99': percentile(result.waits, 0.99),
          };
          return [name, row];
        }),
      ),
    );
  }
}

function percentile(milliseconds: number[], share: number): string {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)]?.toFixed(2) ?? '-';
}

function plans(): Array<[title: string, writers: number, chains: number]> {
  const counts = options.writers.split(',').map(Number);
  const most = Math.max(...counts);
  return [
    ...counts.map((writers): [string, number, number] => [
      `${writers} writer${writers === 1 ? '' : 's'} in one tenant`,
      writers,
      1,
    ]),
    [`${most} writers, each in a tenant of its own`, most, most],
  ];
}

/** Three statements on rows of its own, so that nothing but the chain is waited for. */
async function makeChange(tx: Tx, { id }: Tenant, writer: number): Promise<void> {
  await tx.query('SELECT name, config FROM knowledge_bases WHERE tenant_id = $1 AND slug = $2', [
    id,
    `kb-${writer}`,
  ]);
  await tx.query('SELECT count(*) FROM documents WHERE tenant_id = $1', [id]);
  await tx.query('UPDATE knowledge_bases SET description = $3 WHERE tenant_id = $1 AND slug = $2', [
    id,
    `kb-${writer}`,
    `changed at ${performance.now()}`,
  ]);
}

async function write(
  seconds: number,
  writers: number,
  one: (writer: number, onChanged: (milliseconds: number) => void) => Promise<void>,
): Promise<{ elapsed: number; latencies: number[]; waits: number[] }> {
  const [latencies, waits]: [number[], number[]] = [[], []];
  const started = performance.now();
  const until = started + seconds * 1000;
  await Promise.all(
    Array.from({ length: writers }, async (_, writer) => {
      while (performance.now() < until) {
        const begun = performance.now();
        let changing = 0;
        await one(writer, milliseconds => (changing = milliseconds));
        const latency = performance.now() - begun;
        latencies.push(latency);
        waits.push(latency - changing);
      }
    }),
  );
  return { elapsed: (performance.now() - started) / 1000, latencies, waits };
}

async function createTenants(): Promise<Tenant[]> {
  const access = await installation.open();
  const administration = access.administration();
  await administration.initialize();
  await administration.query(`
    CREATE SEQUENCE bench_sequence START 1000000000;
    GRANT USAGE ON SEQUENCE bench_sequence TO enclave_tenant`);
  const tenants = Array.from({ length: TENANTS }, (_, index) => ({ id: uuidv7(), name: `tenant-${index}` }));
  for (const { id, name } of tenants) {
    await administration.query(
      `INSERT INTO tenants (id, name, display_name, plan_tier) VALUES ($1, $2, $2, 'enterprise')`,
      [id, name],
    );
    await administration.query(
      `INSERT INTO audit_chains (chain_id, sequence, hash) VALUES ($1, 0, repeat('0', 64))`,
      [id],
    );
    await administration.query(
      `INSERT INTO knowledge_bases (id, tenant_id, name, slug, embedding_model)
       SELECT gen_random_uuid(), $1, 'Kb ' || n, 'kb-' || n, 'none' FROM generate_series(0, 63) n`,
      [id],
    );
  }
  await administration.query('VACUUM ANALYZE');
  await administration.destroy();
  await access.close();
  return tenants;
}
