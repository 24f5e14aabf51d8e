import fc from 'fast-check';
import { ClsServiceManager } from 'nestjs-cls';
import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../../../test/setup/database.js';
import { type Env, parseEnv } from '../../foundation/config/env.js';
import { type DatabaseAccess, openDatabase } from '../../foundation/database/data-source.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { EventsRepository } from '../events/events.repository.js';
import { EventsService } from '../events/events.service.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { type AuditEntry, type AuditEvent, canonicalJson, canonicalParts, hashOf } from './audit-entry.js';
import { AuditLogService } from './audit-log.service.js';
import { AuditRepository } from './audit.repository.js';
import { AuditService } from './audit.service.js';

let testDatabase: TestDatabase;
let env: Env;
let access: DatabaseAccess;
let dataSource: DataSource;
let context: TenantContext;
let platform: PlatformDatabase;
let tenants: TenantDatabase;
let audit: AuditService;
let log: AuditLogService;
/** A new one for each test. */
let tenant: { id: string; name: string };

beforeAll(async () => {
  testDatabase = await createTestDatabase();
  env = parseEnv({
    ...testDatabase.env,
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    DATABASE_POOL_SIZE: '20',
  });
  access = await openDatabase(env, TEST_SECRET);
  dataSource = access.application([]);
  await dataSource.initialize();
  context = new TenantContext(ClsServiceManager.getClsService());
  platform = new PlatformDatabase(dataSource);
  tenants = new TenantDatabase(dataSource, context);
  const repository = new AuditRepository();
  audit = new AuditService(context, platform, repository, new EventsService(context, new EventsRepository()));
  log = new AuditLogService(context, tenants, platform, repository, audit);
});
afterAll(async () => {
  await dataSource.destroy();
  await access.close();
  await testDatabase.drop();
});
beforeEach(async () => {
  tenant = await createTenant();
});

async function createTenant(): Promise<typeof tenant> {
  const [id, name] = [randomUUID(), `t-${randomUUID()}`];
  await platform.run(tx =>
    tx.query('INSERT INTO tenants (id, name, display_name) VALUES ($1, $2, $2)', [id, name]),
  );
  return { id, name };
}

const inTenant = <T>(work: (tx: Tx) => Promise<T>) =>
  context.runAsSystem(tenant, () => tenants.run(work), {
    type: 'user',
    id: '0199AAAA-0000-7000-8000-000000000001',
    name: 'ada@example.com',
    ip: '203.0.113.7',
    requestId: null,
  });
const record = (event: Partial<AuditEvent> = {}) =>
  inTenant(tx => {
    audit.record(tx, { action: 'thing.done', resource: { type: 'thing', id: null }, ...event });
    return Promise.resolve();
  });
const entriesOf = (pageSize = 100): Promise<AuditEntry[]> =>
  context.runAsSystem(tenant, async () => {
    const { items } = await log.list('tenant', {}, { page: 1, pageSize, before: null });
    return items.toReversed();
  });
const verify = () => context.runAsSystem(tenant, () => log.verify('tenant', new AbortController().signal));

const HOSTILE: Array<Record<string, unknown>> = [
  { prev_hash: '\u0001', sequence: 0, tenant_id: null, time: 'x', hash: 'x' },
  {
    'prev_hash":"\u0001': '"prev_hash":"\u0001"',
    nested: { sequence: 0, tenant_id: '","sequence":0,"tenant_id"' },
  },
  { nested: [{ prev_hash: '\\u0001', deep: [[[{ sequence: 0 }]]] }, null, true, false, []] },
  { text: 'ß Ω 漢 🦉 👩‍👩‍👧 \u2028 \u2029 \uFEFF', 'ключ 🔑': { öäü: 'é' } },
  {
    numbers: [
      1e21,
      1.0,
      -0,
      0.1 + 0.2,
      5e-324,
      1.7976931348623157e308,
      2 ** 53,
      -1e-7,
      123456789012345680000,
    ],
  },
  { long: 'ü'.repeat(100_000), quotes: `'"\\'' \\" \\\\ $1 $$ %`, slash: '</script>' },
  { control: Array.from({ length: 0x20 }, (_, code) => String.fromCharCode(code)).join('') },
  { 'k\0ey': 'a\0b', lone: '\uD800x\uDC00', '\uD83E': 1, pair: '\uD83E\uDD89' },
  { ...(JSON.parse('{"__proto__": {"a": 1}}') as object), constructor: 'x', toString: 'x', toJSON: 'x' },
  { date: new Date(0), missing: undefined, nothing: null, infinite: Infinity, '': '', ' ': ' ' },
];

describe('the hash of what is read', () => {
  it.each(HOSTILE.map((details, index) => [index, details] as const))(
    'is the one that was stored with it: details %i',
    async (_, details) => {
      await record({ details, resource: { type: 'thing', id: '"prev_hash":"\u0001"\0' } });
      await record({ details: { wrapped: details }, action: 'thing.done' });
      const entries = await entriesOf();
      expect(entries.length).toBe(2);
      for (const entry of entries) expect(hashOf(entry)).toBe(entry.hash);
      expect((await verify()).report).toEqual({ valid: true, entries: 2, problems: [] });
      expect(entries[0]?.actor.id).toBe('0199aaaa-0000-7000-8000-000000000001');
    },
  );

  it('is the one that was stored with it, whatever JSON the details are', async () => {
    const texts = fc.string({ unit: 'binary', maxLength: 20 });
    const json = fc.dictionary(texts, fc.jsonValue({ stringUnit: 'binary', maxDepth: 4 }), { maxKeys: 5 });
    const samples = fc.sample(json, 60);
    await inTenant(tx => {
      for (const details of samples)
        audit.record(tx, { action: 'thing.done', resource: { type: 'thing', id: null }, details });
      return Promise.resolve();
    });
    expect((await verify()).report).toEqual({ valid: true, entries: 60, problems: [] });
  });

  it('is worked out from the same text, in pieces or whole', async () => {
    for (const details of HOSTILE) await record({ details });
    for (const { hash, sequence, prev_hash, ...rest } of await entriesOf()) {
      const [before, between, behind] = canonicalParts(rest);
      expect(before + prev_hash + between + sequence + behind).toBe(
        canonicalJson({ sequence, prev_hash, ...rest }),
      );
      expect(hash).toMatch(/^[0-9a-f]{64}$/);
    }
  });

  it('says what was said, but for what no text of the database holds', async () => {
    await record({ details: { numbers: [1e21, -0, 0.1 + 0.2], text: 'a\0b\uD800', tab: '\t\u0001' } });
    expect((await entriesOf())[0]?.details).toEqual({
      numbers: [1e21, 0, 0.1 + 0.2],
      text: 'a\uFFFDb\uFFFD',
      tab: '\t\u0001',
    });
  });
});

describe('a chain', () => {
  it('has no gap where transactions were rolled back', async () => {
    await record();
    for (const fails of ['in its work', 'at its end']) {
      const failing = inTenant(async tx => {
        audit.record(tx, { action: 'thing.done', resource: { type: 'thing', id: null } });
        if (fails === 'in its work') throw new Error('no');
        await tx.query('SELECT nothing FROM nowhere').catch(() => undefined);
      });
      await expect(failing).rejects.toThrow(/no|aborted/);
    }
    await record();
    expect((await entriesOf()).map(({ sequence }) => sequence)).toEqual([1, 2]);
    expect((await verify()).report.valid).toBe(true);
  });

  it('verifies after 10,000 entries of 20 writers at once, without a gap', async () => {
    const each = SERVER ? 500 : 100;
    await Promise.all(
      Array.from({ length: 20 }, async (_writer, writer) => {
        for (let n = 0; n < each; n++) await record({ details: { writer, n } });
      }),
    );
    const { report, head } = await verify();
    expect(report).toEqual({ valid: true, entries: 20 * each, problems: [] });
    expect(head.sequence).toBe(20 * each);
  });

  it('stops nobody where two transactions append to the same two chains', async () => {
    const first = tenant;
    const second = await createTenant();
    const both = (order: Array<string | null>) =>
      platform.run(async tx => {
        for (const chain of order) {
          const event = { action: 'thing.done', resource: { type: 'thing', id: null } };
          if (chain === null) audit.recordForPlatform(tx, event);
          else audit.recordForTenant(tx, chain.toUpperCase(), event);
        }
      });
    await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        both(index % 2 ? [first.id, null, second.id] : [second.id, first.id, null]),
      ),
    );
    for (const chain of [first, second]) {
      tenant = chain;
      expect((await verify()).report).toEqual({ valid: true, entries: 60, problems: [] });
    }
    const { report } = await log.verify('platform', new AbortController().signal);
    expect(report).toEqual({ valid: true, entries: 60, problems: [] });
  });

  it('begins once where the first two writers come at once', async () => {
    await Promise.all(Array.from({ length: 8 }, () => record()));
    expect((await verify()).report).toEqual({ valid: true, entries: 8, problems: [] });
  });

  it('is not read to its end for whoever has left', async () => {
    await record();
    const leaving = AbortSignal.abort(new Error('gone'));
    await expect(context.runAsSystem(tenant, () => log.verify('tenant', leaving))).rejects.toThrow('gone');
  });
});
