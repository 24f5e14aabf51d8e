import fc from 'fast-check';
import { ClsServiceManager } from 'nestjs-cls';
import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TEST_SECRET, type TestDatabase, createTestDatabase } from '../../../test/setup/database.js';
import { type Env, parseEnv } from '../../foundation/config/env.js';
import { type DatabaseAccess, openDatabase } from '../../foundation/database/data-source.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { CreditsRepository, type Movement } from './credits.repository.js';
import { MOST_CREDITS } from './price-list.js';

const RUNS = 40;
/** Of one tenant, at the same moment. */
const AT_ONCE = 5;

let testDatabase: TestDatabase;
let env: Env;
let access: DatabaseAccess;
let dataSource: DataSource;
let context: TenantContext;
let platform: PlatformDatabase;
let tenants: TenantDatabase;
const repository = new CreditsRepository();

beforeAll(async () => {
  testDatabase = await createTestDatabase();
  env = parseEnv({
    ...testDatabase.env,
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    DATABASE_POOL_SIZE: '10',
  });
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

const movement = (fields: Partial<Movement> = {}): Movement => ({
  operation: 'query',
  lines: [],
  idempotencyKey: randomUUID(),
  tokenId: null,
  userId: null,
  note: null,
  ...fields,
});

/** What a property does to a tenant's credits; numbers without a name pick one of what is there. */
type Step =
  | { do: 'grant'; amount: number; expires: boolean; key: number | null }
  | { do: 'adjust'; amount: number }
  | { do: 'reserve'; estimate: number; token: number; key: number | null }
  | { do: 'commit'; pick: number; percent: number }
  | { do: 'release'; pick: number }
  | { do: 'crash'; pick: number }
  | { do: 'expire'; pick: number }
  | { do: 'charge'; amount: number; key: number | null }
  | { do: 'sweep'; most: number };

const key = fc.option(fc.nat({ max: 4 }), { freq: 4 });
const pick = fc.nat({ max: 1000 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('grant' as const),
      amount: fc.integer({ min: 1, max: 500 }),
      expires: fc.boolean(),
      key,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('adjust' as const),
      amount: fc.integer({ min: -300, max: 300 }).filter(amount => amount !== 0),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      estimate: fc.integer({ min: 1, max: 300 }),
      token: fc.nat({ max: 2 }),
      key,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('commit' as const),
      pick,
      percent: fc.integer({ min: 0, max: 200 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), pick }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('crash' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const), pick }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('charge' as const),
      amount: fc.integer({ min: 1, max: 200 }),
      key,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('sweep' as const), most: fc.integer({ min: 1, max: 3 }) }),
  },
);
/** Batches one after the other, whose steps run at the same time. */
const story = fc.array(fc.array(step, { minLength: 1, maxLength: AT_ONCE, size: 'max' }), {
  minLength: 1,
  maxLength: 14,
  size: 'max',
});

/** One tenant, and what it was told of its movements. */
class Account {
  readonly reservations: Array<{ id: string; estimate: number }> = [];
  readonly told = new Map<string, { commits: number; charged: number[]; released: boolean }>();
  private readonly tokens: Array<string | null> = [null];

  private constructor(
    private readonly tenant: { id: string; name: string },
    private readonly enforced: boolean,
  ) {}

  /** With two tokens, of which one has a budget. */
  static async open(enforced: boolean): Promise<Account> {
    const account = new Account({ id: randomUUID(), name: `t-${randomUUID()}` }, enforced);
    const { id, name } = account.tenant;
    await platform.run(tx =>
      tx.query('INSERT INTO tenants (id, name, display_name) VALUES ($1, $2, $2)', [id, name]),
    );
    for (const budget of [null, 400]) {
      const token = randomUUID();
      account.tokens.push(token);
      await account.run(tx =>
        tx.query(
          `INSERT INTO api_tokens (id, tenant_id, name, kind, scopes, monthly_credit_budget)
           VALUES ($1::uuid, $2, $1::text, 'live', '{}', $3)`,
          [token, id, budget],
        ),
      );
    }
    return account;
  }

  run<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return context.runAsSystem(this.tenant, () => tenants.run(work));
  }

  async take(now: Step): Promise<void> {
    const named = (given: number | null) => (given === null ? randomUUID() : `${now.do}-${given}`);
    switch (now.do) {
      case 'grant': {
        const expires = now.expires ? new Date(Date.now() + 3_600_000) : null;
        await this.run(tx =>
          repository.add(
            tx,
            'grant',
            now.amount,
            expires,
            movement({ idempotencyKey: named(now.key) }),
            this.enforced,
          ),
        );
        return;
      }
      case 'adjust':
        await this.run(tx => repository.add(tx, 'adjust', now.amount, null, movement(), this.enforced));
        return;
      case 'charge':
        await this.run(tx =>
          repository.charge(tx, now.amount, movement({ idempotencyKey: named(now.key) }), this.enforced),
        );
        return;
      case 'reserve':
        return this.reserve(now.estimate, this.tokens[now.token] ?? null, named(now.key));
      case 'commit':
        return this.commit(now.pick, now.percent);
      case 'release': {
        const picked = this.picked(now.pick);
        if (!picked) return;
        const { outcome } = await this.run(tx => repository.release(tx, picked.id, null));
        if (outcome === 'released') this.tellOf(picked.id).released = true;
        return;
      }
      case 'crash': {
        // Nobody comes back: as if its time had passed.
        const picked = this.picked(now.pick);
        if (!picked) return;
        await this.run(tx =>
          tx.query(`UPDATE credit_reservations SET expires_at = now() - interval '1 second' WHERE id = $1`, [
            picked.id,
          ]),
        );
        return;
      }
      case 'expire':
        await this.run(tx =>
          tx.query(
            `UPDATE credit_grants SET expires_at = now() - interval '1 second' WHERE id =
               (SELECT id FROM credit_grants WHERE expires_at IS NOT NULL ORDER BY sequence
                OFFSET $1 % greatest(1, (SELECT count(*) FROM credit_grants WHERE expires_at IS NOT NULL)) LIMIT 1)`,
            [now.pick],
          ),
        );
        return;
      case 'sweep':
        await this.run(tx => repository.sweep(tx, now.most));
        return;
    }
  }

  private async reserve(estimate: number, tokenId: string | null, idempotencyKey: string): Promise<void> {
    const id = randomUUID();
    const outcome = await this.run(tx =>
      repository.reserve(tx, id, estimate, movement({ idempotencyKey, tokenId }), 3600, this.enforced),
    );
    if (outcome.outcome === 'reserved') this.reservations.push({ id, estimate });
    else if (outcome.outcome === 'replayed') expect(outcome.reservationId).not.toBe(id);
    else if ('refusal' in outcome) {
      const { required, available, missing } = outcome.refusal;
      expect({ required, missing }).toEqual({ required: estimate, missing: estimate - available });
      expect(missing).toBeGreaterThan(0);
    }
  }

  private async commit(which: number, percent: number): Promise<void> {
    const picked = this.picked(which);
    if (!picked) return;
    const cost = Math.floor((picked.estimate * percent) / 100);
    const committed = await this.run(tx => repository.commit(tx, picked.id, cost, [], this.enforced));
    const told = this.tellOf(picked.id);
    if (committed.outcome === 'committed') told.commits++;
    if (committed.outcome === 'committed' || committed.outcome === 'replayed') {
      told.charged.push(committed.charged);
      expect(committed.charged + committed.shortfall).toBe(cost);
    } else if (committed.outcome !== 'key_reused') expect(committed.charged).toBe(0);
  }

  private picked(which: number): { id: string; estimate: number } | undefined {
    return this.reservations[which % Math.max(1, this.reservations.length)];
  }

  private tellOf(id: string) {
    const told = this.told.get(id) ?? { commits: 0, charged: [], released: false };
    this.told.set(id, told);
    return told;
  }

  /** Everything that must be true whenever nobody is in the middle of a transaction. */
  async check(): Promise<void> {
    const facts = await this.run(async tx => {
      const [ledger] = await tx.query(`
        SELECT count(*)::int AS entries, coalesce(max(sequence), 0)::int AS last, coalesce(sum(delta), 0)::int AS sum,
               coalesce(min(balance_after), 0)::int AS lowest,
               count(*) FILTER (WHERE balance_after <> running)::int AS astray,
               coalesce((array_agg(balance_after ORDER BY sequence DESC))[1], 0)::int AS "lastBalance",
               coalesce(sum(amount) FILTER (WHERE type = 'commit'), 0)::int AS committed,
               coalesce(sum(amount) FILTER (WHERE type = 'expire'), 0)::int AS expired,
               coalesce(sum(amount) FILTER (WHERE type IN ('grant', 'adjust') AND delta > 0), 0)::int AS granted,
               coalesce(sum(amount) FILTER (WHERE type = 'adjust' AND delta < 0), 0)::int AS corrected
        FROM (SELECT *, sum(delta) OVER (ORDER BY sequence) AS running FROM credit_ledger) AS l`);
      const [account] = await tx.query(
        'SELECT balance::int, held::int, granted::int, sequence::int FROM credit_accounts',
      );
      const [grants] = await tx.query(`
        SELECT coalesce(sum(remaining), 0)::int AS remaining, coalesce(sum(expired), 0)::int AS expired,
               coalesce(sum(amount), 0)::int AS amount FROM credit_grants`);
      const [months] = await tx.query(
        'SELECT coalesce(sum(spent), 0)::int AS spent, coalesce(sum(held), 0)::int AS held FROM credit_months',
      );
      const [open] = await tx.query(
        `SELECT coalesce(sum(estimate), 0)::int AS held FROM credit_reservations WHERE status = 'open'`,
      );
      const budgets = await tx.query(`
        SELECT t.monthly_credit_budget::int AS budget, (m.spent + m.held)::int AS used
        FROM credit_months m JOIN api_tokens t ON t.id = m.token_id WHERE t.monthly_credit_budget IS NOT NULL`);
      const reservations = await tx.query(`
        SELECT r.id, r.status, r.estimate::int, r.charged::int,
               count(*) FILTER (WHERE l.type = 'reserve')::int AS reserves,
               count(*) FILTER (WHERE l.type = 'commit')::int AS commits,
               count(*) FILTER (WHERE l.type = 'release')::int AS releases,
               sum(l.delta)::int AS net
        FROM credit_reservations r LEFT JOIN credit_ledger l ON l.reservation_id = r.id GROUP BY r.id`);
      return { ledger, account, grants, months, open, budgets, reservations };
    });
    const { ledger, grants, months, open } = facts;
    const account = facts.account ?? { balance: 0, held: 0, granted: 0, sequence: 0 };
    expect(ledger.sum).toBe(account.balance);
    expect(ledger.lastBalance).toBe(account.balance);
    expect(ledger.astray).toBe(0);
    expect({ entries: ledger.entries, last: ledger.last }).toEqual({
      entries: account.sequence,
      last: account.sequence,
    });
    if (this.enforced) expect(ledger.lowest).toBeGreaterThanOrEqual(0);
    expect(grants.remaining).toBe(Math.max(0, account.balance));
    expect(grants.amount).toBe(ledger.granted);
    expect(grants.expired).toBe(ledger.expired);
    expect(account.granted).toBe(ledger.granted);
    expect(account.held).toBe(open.held);
    expect(months).toEqual({ spent: ledger.committed, held: open.held });
    // Nothing comes from nowhere, and nothing goes there.
    expect(account.balance + account.held + ledger.committed + ledger.expired + ledger.corrected).toBe(
      ledger.granted,
    );
    for (const { budget, used } of facts.budgets) expect(used).toBeLessThanOrEqual(budget);
    for (const found of facts.reservations) this.checkReservation(found);
  }

  private checkReservation(found: {
    id: string;
    status: string;
    estimate: number;
    charged: number | null;
    reserves: number;
    commits: number;
    releases: number;
    net: number;
  }): void {
    const { commits = 0, charged = [], released = false } = this.told.get(found.id) ?? {};
    expect(found.reserves).toBe(1);
    expect(found.commits).toBe(found.status === 'committed' ? 1 : 0);
    expect(commits).toBe(found.commits);
    expect(charged.every(amount => amount === found.charged)).toBe(true);
    if (released) expect(found.status).toBe('released');
    switch (found.status) {
      case 'open':
        expect({ net: found.net, releases: found.releases }).toEqual({ net: -found.estimate, releases: 0 });
        break;
      case 'committed':
        expect(found.net + (found.charged as number)).toBe(0);
        expect(found.releases).toBe((found.charged as number) < found.estimate ? 1 : 0);
        break;
      default:
        expect({ net: found.net, releases: found.releases }).toEqual({ net: 0, releases: 1 });
    }
  }

  /** Whoever held credits is dead, and all grants have expired. */
  async end(): Promise<void> {
    await this.run(async tx => {
      await tx.query(`UPDATE credit_reservations SET expires_at = now() - interval '1 second'`);
      await tx.query(`UPDATE credit_grants SET expires_at = now() - interval '1 second'`);
    });
    for (let more = true; more;) {
      const { released, expired } = await this.run(tx => repository.sweep(tx, 2));
      more = released > 0 || expired > 0;
    }
  }
}

describe('credits, whatever happens in whichever order', () => {
  it.each([true, false])(
    'add up (enforced: %s)',
    async enforced => {
      await fc.assert(
        fc.asyncProperty(story, async batches => {
          const account = await Account.open(enforced);
          for (const batch of batches) {
            await Promise.all(batch.map(now => account.take(now)));
            await account.check();
          }
          await account.end();
          await account.check();
          const [left] = await account.run(tx =>
            tx.query('SELECT greatest(balance, 0)::int AS balance, held::int FROM credit_accounts'),
          );
          expect(left).toEqual({ balance: 0, held: 0 });
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
    },
    300_000,
  );
});

describe('a tenant’s credits', () => {
  const add = (
    account: Account,
    amount: number,
    expiresAt: Date | null = null,
    type: 'grant' | 'adjust' = 'grant',
  ) => account.run(tx => repository.add(tx, type, amount, expiresAt, movement(), true));
  const remaining = async (account: Account): Promise<number[]> => {
    const rows: Array<{ remaining: number }> = await account.run(tx =>
      tx.query('SELECT remaining::int FROM credit_grants ORDER BY sequence'),
    );
    return rows.map(row => row.remaining);
  };
  const reserve = (account: Account, id: string, estimate: number, enforced = true) =>
    account.run(tx => repository.reserve(tx, id, estimate, movement(), 60, enforced));
  const soon = (hours: number) => new Date(Date.now() + hours * 3_600_000);

  it('are spent in the order in which they expire, and go back to where they came from', async () => {
    const account = await Account.open(true);
    for (const [amount, expiry] of [
      [100, null],
      [100, soon(2)],
      [100, soon(1)],
    ] as const)
      await add(account, amount, expiry);
    const id = randomUUID();
    await reserve(account, id, 250);
    expect(await remaining(account)).toEqual([50, 0, 0]);
    await account.run(tx => repository.commit(tx, id, 120, [], true));
    expect(await remaining(account)).toEqual([100, 80, 0]);
  });

  it('of a grant that expires while they are held can be committed, but what comes back is gone', async () => {
    const account = await Account.open(true);
    await add(account, 100, soon(1));
    const id = randomUUID();
    await reserve(account, id, 80);
    await account.run(tx => tx.query(`UPDATE credit_grants SET expires_at = now() - interval '1 second'`));
    await account.run(tx => repository.sweep(tx, 10));
    expect(await account.run(tx => repository.commit(tx, id, 30, [], true))).toMatchObject({
      outcome: 'committed',
      charged: 30,
      state: { balance: 0, held: 0 },
    });
    const types: Array<{ type: string; delta: number }> = await account.run(tx =>
      tx.query('SELECT type, delta::int FROM credit_ledger ORDER BY sequence'),
    );
    expect(types.map(({ type, delta }) => [type, delta])).toEqual([
      ['grant', 100],
      ['reserve', -80],
      ['expire', -20],
      ['commit', 0],
      ['release', 50],
      ['expire', -50],
    ]);
  });

  it('are never more than can be counted', async () => {
    const account = await Account.open(true);
    expect(await add(account, MOST_CREDITS)).toMatchObject({ outcome: 'added' });
    expect(await add(account, 1)).toMatchObject({ outcome: 'overflow' });
    expect(await add(account, MOST_CREDITS, null, 'adjust')).toMatchObject({ outcome: 'overflow' });
    const id = randomUUID();
    expect(await reserve(account, id, MOST_CREDITS)).toMatchObject({ outcome: 'reserved' });
    expect(await account.run(tx => repository.commit(tx, id, MOST_CREDITS, [], true))).toMatchObject({
      charged: MOST_CREDITS,
      state: { balance: 0 },
    });
    // A debt, too, has its end.
    expect(await reserve(account, randomUUID(), 1, false)).toMatchObject({ outcome: 'overflow' });
    const other = await Account.open(false);
    expect(await reserve(other, randomUUID(), MOST_CREDITS, false)).toMatchObject({ outcome: 'reserved' });
    expect(await reserve(other, randomUUID(), 1, false)).toMatchObject({ outcome: 'overflow' });
  });

  it('tell once that they are few, and once that there are none', async () => {
    const account = await Account.open(true);
    await add(account, 1000);
    const spend = async (cost: number) => {
      const id = randomUUID();
      const reserved = await reserve(account, id, cost);
      if (reserved.outcome !== 'reserved') return [reserved.state?.low, reserved.state?.exhausted];
      const { state } = await account.run(tx => repository.commit(tx, id, cost, [], true));
      return [state?.low, state?.exhausted];
    };
    expect(await spend(900)).toEqual([false, false]);
    expect(await spend(1)).toEqual([true, false]);
    expect(await spend(1)).toEqual([false, false]);
    expect(await spend(200)).toEqual([false, true]);
    expect(await spend(200)).toEqual([false, false]);
    expect(await spend(98)).toEqual([false, false]);
    await add(account, 1000);
    expect(await spend(950)).toEqual([true, false]);
    expect(await spend(50)).toEqual([false, true]);
  });

  it('can be read and added to by the tenant’s role, and nothing of the ledger be changed', async () => {
    const account = await Account.open(true);
    await add(account, 10);
    for (const statement of ['UPDATE credit_ledger SET delta = 0', 'DELETE FROM credit_ledger'])
      await expect(account.run(tx => tx.query(statement))).rejects.toThrow(/permission denied/);
    await expect(platform.run(tx => tx.query('SELECT * FROM credit_ledger'))).rejects.toThrow(
      /permission denied/,
    );
    await expect(platform.run(tx => tx.query('UPDATE prices SET micro_credits = 0'))).rejects.toThrow(
      /permission denied/,
    );
  });
});
