import { readFileSync } from 'node:fs';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../../../test/setup/database.js';
import { parseEnv } from '../config/env.js';
import { type DatabaseAccess, openDatabase } from './data-source.js';
import { IsolationProbes, type ProbeFinding, TENANT_SETTINGS } from './isolation-probes.js';
import { TENANT_ROLE } from './roles.js';

const POOL_SIZE = 3;
/** What the probes ask in the transaction that they look behind. */
const USED = 'SELECT pg_backend_pid() AS pid';

let database: TestDatabase;
let access: DatabaseAccess;
let dataSource: DataSource;

beforeAll(async () => {
  database = await createTestDatabase();
  const env = parseEnv({
    ...database.env,
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    DATABASE_POOL_SIZE: String(POOL_SIZE),
  });
  access = await openDatabase(env, TEST_SECRET);
});
beforeEach(async () => {
  dataSource = access.application([]);
  await dataSource.initialize();
});
afterEach(async () => {
  vi.restoreAllMocks();
  // The embedded database has one session, whose settings outlive the pool.
  for (const name of ['ROLE', 'app.tenant_id']) await dataSource.query(`RESET ${name}`);
  await dataSource.destroy();
});
afterAll(async () => {
  await access.close();
  await database.drop();
});

/** Has a hand in every statement. */
function onEachQuery(meddle: (text: string, real: () => Promise<any>) => Promise<any>): void {
  const real = dataSource.query.bind(dataSource);
  vi.spyOn(dataSource, 'query').mockImplementation((text: string, ...rest: any[]) =>
    meddle(text, () => real(text, ...rest)),
  );
}

/** What is said of pooled connections, by check. */
async function ofConnections() {
  const findings = await new IsolationProbes(dataSource, !SERVER).run();
  return new Map(
    findings
      .filter(({ subject }) => subject === 'pooled connection')
      .map(finding => [finding.check, finding]),
  );
}

const CHECKS = ['after_commit', 'after_error', ...(SERVER ? ['after_cancelled_query'] : [])];

describe('the probes of pooled connections', () => {
  it('see each connection that was used, after the end that they are about', async () => {
    const findings = await ofConnections();
    expect([...findings.keys()]).toEqual(CHECKS);
    for (const { ok, tried, detail } of findings.values())
      expect({ ok, tried }, detail).toEqual({ ok: true, tried: true });
  });

  it('know each setting that a tenant’s transaction makes', () => {
    const source = readFileSync(new URL('../../core/tenancy/tenant-database.ts', import.meta.url), 'utf8');
    const made = [...source.matchAll(/SET LOCAL app\.(\w+)/g)].map(([, name]) => name);
    expect(made.toSorted()).toEqual([...TENANT_SETTINGS].toSorted());
  });

  it('do not say that it held where a transaction does not end as it should', async () => {
    onEachQuery((text, real) =>
      text === USED ? Promise.reject(Object.assign(new Error('ended'), { code: '57P01' })) : real(),
    );
    const findings = await ofConnections();
    for (const check of CHECKS) {
      expect(findings.get(check)).toMatchObject({ ok: false, tried: false });
      expect(findings.get(check)?.detail).toContain('the transaction ended with 57P01');
    }
  });

  it.each([
    ['settings of a tenant', `SET app.tenant_id = '00000000-0000-7000-8000-000000000001'`],
    [`the role ${TENANT_ROLE}`, `SET ROLE ${TENANT_ROLE}`],
  ])('find a connection that carries %s', async (what, statement) => {
    const real = dataSource.query.bind(dataSource);
    vi.spyOn(dataSource, 'query').mockImplementation((text: string, ...rest: any[]) =>
      // Without LOCAL it lasts beyond the commit.
      real(text === 'SELECT 1' ? statement : text, ...rest),
    );
    const findings = await ofConnections();
    expect(findings.get('after_commit')).toMatchObject({ ok: false, tried: true });
    expect(findings.get('after_commit')?.detail).toContain(what);
  });

  it.runIf(SERVER)('wait for the connection that was used while somebody else has it', async () => {
    let used = 0;
    let looks = 0;
    onEachQuery(async (text, real) => {
      if (text.includes('AS login, ') && looks++ === 0) await holdBack(used, 200);
      const rows = await real();
      if (text === USED) used ||= rows[0].pid;
      return rows;
    });
    const { ok, tried } = (await ofConnections()).get('after_commit') as ProbeFinding;
    expect({ ok, tried }).toEqual({ ok: true, tried: true });
    expect(looks).toBeGreaterThan(3);
  });

  it.runIf(SERVER)(
    'say so where they do not meet it again',
    async () => {
      onEachQuery(async (text, real) => {
        const rows = await real();
        return text.includes('AS login, ') ? rows.map((row: object) => ({ ...row, pid: -1 })) : rows;
      });
      const findings = await ofConnections();
      for (const check of CHECKS) expect(findings.get(check)).toMatchObject({ ok: false, tried: false });
    },
    30_000,
  );
});

/** Takes a connection out of the pool, for so many milliseconds. */
async function holdBack(pid: number, ms: number): Promise<void> {
  const runners = Array.from({ length: POOL_SIZE }, () => dataSource.createQueryRunner());
  const pids = await Promise.all(
    runners.map(async runner => (await runner.query('SELECT pg_backend_pid() AS pid'))[0].pid as number),
  );
  expect(pids).toContain(pid);
  for (const [index, runner] of runners.entries()) {
    if (pids[index] === pid) setTimeout(() => void runner.release(), ms);
    else await runner.release();
  }
}
