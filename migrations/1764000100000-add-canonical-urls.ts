import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Where web pages say that they belong: beside the address that they were fetched from, and are fetched from again. */
export class AddCanonicalUrls1764000100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE documents ADD COLUMN canonical_url text');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
