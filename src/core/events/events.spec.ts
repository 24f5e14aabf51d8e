import { Logger } from '@nestjs/common';
import { ClsServiceManager } from 'nestjs-cls';
import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../../../test/setup/database.js';
import { type Env, parseEnv } from '../../foundation/config/env.js';
import { type DatabaseAccess, openDatabase } from '../../foundation/database/data-source.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { ContextMissingError, TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { EventDispatcher } from './event-dispatcher.service.js';
import { EventsRepository, type StoredEvent } from './events.repository.js';
import { EventsService } from './events.service.js';

interface Tenant {
  id: string;
  name: string;
}

let testDatabase: TestDatabase;
let env: Env;
let access: DatabaseAccess;
let dataSource: DataSource;
let context: TenantContext;
let platform: PlatformDatabase;
let tenants: TenantDatabase;
let events: EventsService;
/** Somebody listens in the one, nobody in the other. */
let listening: Tenant;
let silent: Tenant;
let running: EventDispatcher[] = [];

beforeAll(async () => {
  testDatabase = await createTestDatabase();
  env = parseEnv({ ...testDatabase.env, JWT_SECRET: TEST_SECRET, ENCRYPTION_KEY: TEST_SECRET });
  access = await openDatabase(env, TEST_SECRET);
  dataSource = access.application([]);
  await dataSource.initialize();
  context = new TenantContext(ClsServiceManager.getClsService());
  platform = new PlatformDatabase(dataSource);
  tenants = new TenantDatabase(dataSource, context);
});
afterAll(async () => {
  await dataSource.destroy();
  await access.close();
  await testDatabase.drop();
});
beforeEach(async () => {
  events = new EventsService(context, new EventsRepository());
  [listening, silent] = [await createTenant(true), await createTenant(false)];
});
afterEach(async () => {
  await Promise.all(running.map(dispatcher => dispatcher.beforeApplicationShutdown()));
  running = [];
  await platform.run(tx => tx.query('DELETE FROM events'));
  vi.restoreAllMocks();
});

async function createTenant(emits: boolean): Promise<Tenant> {
  const [id, name] = [randomUUID(), `t-${randomUUID()}`];
  await platform.run(tx =>
    tx.query('INSERT INTO tenants (id, name, display_name, emits_events) VALUES ($1, $2, $2, $3)', [
      id,
      name,
      emits,
    ]),
  );
  return { id, name };
}

const inTenant = (tenant: Tenant, work: (tx: Tx) => void) =>
  context.runAsSystem(tenant, () => tenants.run(tx => Promise.resolve(work(tx))));
const publish = (tenant: Tenant, ...types: string[]) =>
  inTenant(tenant, tx => types.forEach((type, n) => events.publish(tx, { type, data: { n } })));
const outbox = (): Promise<Array<{ type: string; tenant_id: string }>> =>
  platform.run(tx => tx.query('SELECT type, tenant_id FROM events ORDER BY id'));

/** A process of its own that hands events on; what it has told. */
function startDispatcher(listener?: (tx: Tx, told: readonly StoredEvent[]) => Promise<void>): string[] {
  const told: string[] = [];
  const own = new EventsService(context, new EventsRepository());
  own.listen(async (tx, taken) => {
    await listener?.(tx, taken);
    told.push(...taken.map(event => event.type));
  });
  const dispatcher = new EventDispatcher(platform, own, new EventsRepository());
  dispatcher.onApplicationBootstrap();
  running.push(dispatcher);
  return told;
}

describe('an event', () => {
  it('waits in the outbox with the change that it is about, and is told once', async () => {
    await publish(listening, 'thing.made', 'thing.changed');
    expect(await outbox()).toEqual([
      { type: 'thing.made', tenant_id: listening.id },
      { type: 'thing.changed', tenant_id: listening.id },
    ]);
    const seen: StoredEvent[] = [];
    const told = startDispatcher((_, taken) => Promise.resolve(void seen.push(...taken)));
    await expect.poll(() => told, { timeout: 5_000 }).toEqual(['thing.made', 'thing.changed']);
    expect(seen[1]).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      tenantId: listening.id,
      type: 'thing.changed',
      data: { n: 1 },
      occurredAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    await expect.poll(outbox, { timeout: 5_000 }).toEqual([]);
  });

  it('of a change that is rolled back is not told', async () => {
    const failing = inTenant(listening, tx => {
      events.publish(tx, { type: 'thing.made', data: {} });
      throw new Error('changed my mind');
    });
    await expect(failing).rejects.toThrow('changed my mind');
    const swallowed = context.runAsSystem(listening, () =>
      tenants.run(async tx => {
        events.publish(tx, { type: 'thing.made', data: {} });
        await tx.query('SELECT 1/0').catch(() => undefined);
      }),
    );
    await expect(swallowed).rejects.toThrow('aborted');
    expect(await outbox()).toEqual([]);
  });

  it('that nobody waits for leaves no row', async () => {
    await publish(silent, 'thing.made');
    await publish(listening, 'thing.made');
    expect(await outbox()).toEqual([{ type: 'thing.made', tenant_id: listening.id }]);
  });

  it('belongs to the tenant of the context, or to one that the platform names', async () => {
    await platform.run(tx => {
      for (const { id } of [listening, silent]) events.publish(tx, { type: 'thing.made', data: {} }, id);
      return Promise.resolve();
    });
    expect(await outbox()).toEqual([{ type: 'thing.made', tenant_id: listening.id }]);
    const nobodys = platform.run(tx => Promise.resolve(events.publish(tx, { type: 'a.b', data: {} })));
    await expect(nobodys).rejects.toThrow(ContextMissingError);
  });

  it('of another tenant cannot be told from within a tenant', async () => {
    const other = await createTenant(true);
    await inTenant(listening, tx => events.publish(tx, { type: 'thing.made', data: {} }, other.id));
    expect(await outbox()).toEqual([]);
  });

  it('holds whatever JSON holds', async () => {
    const data = { text: `it's "quoted" \\ $1 ; DROP TABLE events; -- 😀`, deep: [{ a: null }], n: 1.5 };
    await inTenant(listening, tx => events.publish(tx, { type: 'thing.made', data }));
    const [row] = await platform.run<Array<{ data: unknown }>>(tx => tx.query('SELECT data FROM events'));
    expect(row?.data).toEqual(data);
  });
});

describe('handing events on', () => {
  it('is done again where a listener fails, and nothing that it did stays', async () => {
    vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    await publish(listening, 'thing.made');
    let failures = 0;
    startDispatcher(async tx => {
      await tx.query('UPDATE tenants SET description = $2 WHERE id = $1', [listening.id, 'written']);
      failures++;
      throw new Error('not now');
    });
    await expect.poll(() => failures, { timeout: 5_000 }).toBeGreaterThan(0);
    expect(await outbox()).toHaveLength(1);
    const [row] = await platform.run<Array<{ description: string }>>(tx =>
      tx.query('SELECT description FROM tenants WHERE id = $1', [listening.id]),
    );
    expect(row?.description).toBe('');
  });

  it('is not held up by one event that cannot be taken over', async () => {
    const logged = vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    await publish(listening, 'thing.made', 'thing.poisoned', 'thing.changed');
    const told = startDispatcher((_, taken) =>
      taken.some(({ type }) => type === 'thing.poisoned')
        ? Promise.reject(new Error('poison'))
        : Promise.resolve(),
    );
    await expect.poll(() => told, { timeout: 5_000 }).toEqual(['thing.made', 'thing.changed']);
    await publish(listening, 'thing.later');
    await expect.poll(() => told.at(-1), { timeout: 5_000 }).toBe('thing.later');
    await expect
      .poll(async () => (await outbox()).map(({ type }) => type), { timeout: 5_000 })
      .toEqual(['thing.poisoned']);
    expect(logged).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('(thing.poisoned) stays aside'));
  });

  it('loses nothing where nobody listens in this process', async () => {
    await publish(listening, 'thing.made');
    const dispatcher = new EventDispatcher(platform, events, new EventsRepository());
    dispatcher.onApplicationBootstrap();
    running.push(dispatcher);
    await new Promise(done => setTimeout(done, 1_500));
    expect(await outbox()).toHaveLength(1);
  });

  it('tells none twice where several processes do it', async () => {
    const types = Array.from({ length: 500 }, (_, n) => `thing.n${n}`);
    for (let n = 0; n < types.length; n += 50) await publish(listening, ...types.slice(n, n + 50));
    const told = [startDispatcher(), startDispatcher(), ...(SERVER ? [startDispatcher()] : [])];
    await expect.poll(() => told.flat().length, { timeout: 20_000 }).toBe(types.length);
    await expect.poll(outbox, { timeout: 5_000 }).toEqual([]);
    expect(told.flat().toSorted()).toEqual(types.toSorted());
  });
});
