import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { type IsolationFinding, readCatalogue } from './catalogue-check.js';
import { TENANT_ROLE } from './roles.js';
import { runTransaction } from './transaction.js';

/** What ends a transaction, by what is asked in it. */
const ENDINGS: ReadonlyArray<{ check: string; after: string; statement: string; onServersOnly?: true }> = [
  { check: 'after_commit', after: 'a commit', statement: 'SELECT 1' },
  { check: 'after_error', after: 'an error', statement: 'SELECT 1 / 0' },
  {
    check: 'after_cancelled_query',
    after: 'a query that was cancelled',
    statement: `SET LOCAL statement_timeout = '20ms'; SELECT pg_sleep(5)`,
    // The embedded database works on one statement until it is done.
    onServersOnly: true,
  },
];

/** Connections of the pool that are looked at for the one that was used, while other requests use them, too. */
const MOST_LOOKS = 5;

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

  /** The catalogue, probes of every table, and what pooled connections carry from one request to the next. */
  async run(): Promise<IsolationFinding[]> {
    const findings = await readCatalogue(this.dataSource);
    for (const ending of ENDINGS) {
      if (ending.onServersOnly && this.embedded) continue;
      const used = await this.useConnection(ending.statement);
      findings.push(await this.lookAtConnections(used, ending));
    }
    return findings;
  }

  /** As a tenant that does not exist. @returns which connection of the pool it was */
  private async useConnection(statement: string): Promise<number> {
    let pid = 0;
    const enter = `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${randomUUID()}'; SET LOCAL app.access = 'all'`;
    await runTransaction(this.dataSource, enter, async tx => {
      [{ pid }] = await tx.query('SELECT pg_backend_pid() AS pid');
      await tx.query(statement);
    }).catch(() => undefined);
    return pid;
  }

  private async lookAtConnections(
    used: number,
    { check, after }: (typeof ENDINGS)[number],
  ): Promise<IsolationFinding> {
    const subject = 'pooled connection';
    for (let look = 0; look < MOST_LOOKS; look++) {
      const [{ pid, role, login, left }]: [Connection] = await this.dataSource.query(`
        SELECT pg_backend_pid() AS pid, current_user AS role, session_user AS login,
               concat(${['tenant_id', 'user_id', 'groups', 'access', 'token_id', 'kb_ids', 'agent_ids'].map(name => `current_setting('app.${name}', true)`).join(', ')}) AS left`);
      if (role !== login || left !== '') {
        const carried = role === login ? 'settings of a tenant' : `the role ${role}`;
        return {
          check,
          subject,
          ok: false,
          detail: `A pooled connection carries ${carried} over after ${after}.`,
        };
      }
      if (pid === used) break;
    }
    return { check, subject, ok: true, detail: `A pooled connection carries nothing over after ${after}.` };
  }
}
