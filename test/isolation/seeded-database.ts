import type { DataSource } from 'typeorm';
import { ENTITIES } from '../../src/app.module.js';
import { type Env, parseEnv } from '../../src/foundation/config/env.js';
import { type DatabaseAccess, openDatabase } from '../../src/foundation/database/data-source.js';
import { PLATFORM_ROLE, TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { type Tx, runTransaction } from '../../src/foundation/database/transaction.js';
import { TEST_SECRET, type TestDatabase, createTestDatabase } from '../setup/database.js';
import { asSuperuser } from '../setup/superuser.js';
import { A, B, seed } from '../setup/tenant-rows.js';

/** A migrated database with the rows of two tenants, and no application on it. */
export class SeededDatabase {
  access!: DatabaseAccess;
  dataSource!: DataSource;

  private constructor(
    private readonly database: TestDatabase,
    readonly env: Env,
  ) {}

  static async create(): Promise<SeededDatabase> {
    const database = await createTestDatabase();
    // One connection, so that each transaction gets what the one before it left behind.
    const env = parseEnv({
      ...database.env,
      JWT_SECRET: TEST_SECRET,
      ENCRYPTION_KEY: TEST_SECRET,
      DATABASE_POOL_SIZE: '1',
    });
    const seeded = new SeededDatabase(database, env);
    await seeded.open();
    await seeded.superuser(seed(A), seed(B));
    return seeded;
  }

  async open(): Promise<void> {
    this.access = await openDatabase(this.env, TEST_SECRET);
    this.dataSource = this.access.application(ENTITIES);
    await this.dataSource.initialize();
  }

  async close(): Promise<void> {
    await this.dataSource.destroy();
    await this.access.close();
  }

  async drop(): Promise<void> {
    await this.close();
    await this.database.drop();
  }

  /** @returns the rows of the last statement */
  superuser(...statements: string[]): Promise<Array<Record<string, string>>> {
    return asSuperuser(this.env, this.dataSource, async client => {
      let rows: Array<Record<string, string>> = [];
      for (const statement of statements) rows = (await client.query(statement)).rows as typeof rows;
      return rows;
    });
  }

  asTenant(tenant: string | null, work: (tx: Tx) => Promise<any[]>, sees = 'granted') {
    const context = `${tenant === null ? '' : `; SET LOCAL app.tenant_id = '${tenant}'`}; SET LOCAL app.access = '${sees}'`;
    return runTransaction(this.dataSource, `SET LOCAL ROLE ${TENANT_ROLE}${context}`, work);
  }

  asPlatform(work: (tx: Tx) => Promise<unknown>) {
    return runTransaction(this.dataSource, `SET LOCAL ROLE ${PLATFORM_ROLE}`, work);
  }
}
