import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { readCatalogue } from './catalogue-check.js';
import type { IsolationFinding } from './isolation-finding.js';
import { madeUpRowFindings } from './made-up-rows.js';
import { TENANT_ROLE } from './roles.js';
import { runTransaction } from './transaction.js';

interface Ending {
  check: string;
  after: string;
  /** One message each: of a message with several statements PostgreSQL refuses all. */
  statements: readonly string[];
  /** SQLSTATE with which the last one must fail; null: it commits. */
  code: string | null;
  onServersOnly?: true;
}

/** What ends a transaction, by what is asked in it. */
const ENDINGS: readonly Ending[] = [
  { check: 'after_commit', after: 'a commit', statements: ['SELECT 1'], code: null },
  { check: 'after_error', after: 'an error', statements: ['SELECT 1 / 0'], code: '22012' },
  {
    check: 'after_cancelled_query',
    after: 'a query that was cancelled',
    statements: [`SET LOCAL statement_timeout = '20ms'`, 'SELECT pg_sleep(5)'],
    code: '57014',
    // The embedded database works on one statement until it is done.
    onServersOnly: true,
  },
];

/** What a transaction of a tenant may set: each must be gone afterwards. */
export const TENANT_SETTINGS = [
  'tenant_id',
  'user_id',
  'groups',
  'access',
  'token_id',
  'kb_ids',
  'agent_ids',
] as const;

const SUBJECT = 'pooled connection';
/** For the connection that was used to be met again, while other requests use it, too. */
const LONGEST_LOOK_MS = 2_000;
const PAUSE_MS = 20;
/** What TypeORM gives a pool whose size nobody has said. */
const DEFAULT_POOL_SIZE = 10;

/** What was found, or that it could not be looked at: then it does not count as held, nor as broken. */
export interface ProbeFinding extends IsolationFinding {
  tried: boolean;
}

interface Connection {
  pid: number;
  role: string;
  login: string;
  /** Settings of the application that are still there. */
  left: string;
}

/** Looks, in the database that serves requests, whether what keeps tenants apart stands. Reads no row of anybody. */
export class IsolationProbes {
  constructor(
    private readonly dataSource: DataSource,
    private readonly embedded: boolean,
  ) {}

  /** The catalogue, probes of every table and policy, and what pooled connections carry from one request to the next. */
  async run(): Promise<ProbeFinding[]> {
    const findings = [
      ...(await readCatalogue(this.dataSource)),
      ...(await madeUpRowFindings(this.dataSource)),
    ].map((finding): ProbeFinding => ({ ...finding, tried: true }));
    for (const ending of ENDINGS) {
      if (ending.onServersOnly && this.embedded) continue;
      findings.push(await this.probe(ending));
    }
    return findings;
  }

  private async probe(ending: Ending): Promise<ProbeFinding> {
    const { check, after, code } = ending;
    const { pid, ended } = await this.useConnection(ending);
    const untried = (why: string): ProbeFinding => ({
      check,
      subject: SUBJECT,
      ok: false,
      tried: false,
      detail: `What a pooled connection carries over after ${after} could not be looked at: ${why}.`,
    });
    if (pid === null || ended !== code) return untried(`the transaction ended with ${ended ?? 'a commit'}`);
    const found = await this.lookFor(pid);
    if (found === 'unseen') return untried('other requests have used the connection all the time');
    const carried = found === 'clean' ? 'nothing' : found;
    return {
      check,
      subject: SUBJECT,
      ok: found === 'clean',
      tried: true,
      detail: `A pooled connection carries ${carried} over after ${after}.`,
    };
  }

  /** As a tenant that does not exist. @returns which connection of the pool it was, and how it ended: null with a commit */
  private async useConnection({ statements }: Ending): Promise<{ pid: number | null; ended: string | null }> {
    let pid: number | null = null;
    const enter = `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${randomUUID()}'; SET LOCAL app.access = 'all'`;
    const ended = await runTransaction(this.dataSource, enter, async tx => {
      [{ pid }] = await tx.query('SELECT pg_backend_pid() AS pid');
      for (const statement of statements) await tx.query(statement);
    }).then(() => null, codeOf);
    return { pid, ended };
  }

  /**
   * Until the connection was met that was used, or is gone: one that cannot roll back is closed. Whatever else is met on
   * the way must be clean, too.
   *
   * @returns `clean`, `unseen`, or what it carries
   */
  private async lookFor(used: number): Promise<string> {
    const { poolSize = DEFAULT_POOL_SIZE } = this.dataSource.options as { poolSize?: number };
    const began = performance.now();
    for (let round = 0; performance.now() - began < LONGEST_LOOK_MS; round++) {
      // First the one that was given back last; where somebody else has taken it, more and more side by side.
      const width = Math.min(2 ** round, poolSize);
      const met = await Promise.all(Array.from({ length: width }, () => this.look()));
      const carrying = met.find(({ role, login, left }) => role !== login || left !== '');
      if (carrying)
        return carrying.role === carrying.login ? 'settings of a tenant' : `the role ${carrying.role}`;
      if (met.some(({ pid }) => pid === used) || !(await this.isThere(used))) return 'clean';
      await sleep(PAUSE_MS);
    }
    return 'unseen';
  }

  private async look(): Promise<Connection> {
    const left = TENANT_SETTINGS.map(name => `current_setting('app.${name}', true)`).join(', ');
    const [connection]: [Connection] = await this.dataSource.query(
      `SELECT pg_backend_pid() AS pid, current_user AS role, session_user AS login, concat(${left}) AS left`,
    );
    return connection;
  }

  private async isThere(pid: number): Promise<boolean> {
    const [{ there }]: [{ there: boolean }] = await this.dataSource.query(
      'SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1) AS there',
      [pid],
    );
    return there;
  }
}

/** SQLSTATE where there is one: what the database says beside it may be somebody's. */
function codeOf(error: unknown): string {
  const { code, driverError } = error as { code?: string; driverError?: { code?: string } };
  return driverError?.code ?? code ?? (error as Error).name;
}
