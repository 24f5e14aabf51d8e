import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Postings are kept in finer classes of weight: indexes of before are built anew. Until then searches read all chunks. */
export class WeighPostingsFiner1765000800000 implements MigrationInterface {
  readonly name = 'WeighPostingsFiner1765000800000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- The owner marks all rows, whatever their tenant.
      ALTER TABLE large_indexes NO FORCE ROW LEVEL SECURITY;
      UPDATE large_indexes SET stale = true;
      ALTER TABLE large_indexes FORCE ROW LEVEL SECURITY;
    `);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
