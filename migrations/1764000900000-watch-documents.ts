import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE } from '../src/foundation/database/roles.js';

/** Whoever watches a document's ingestion, or the import that it came with, is told of changes by the platform. */
export class WatchDocuments1764000900000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    // When something has changed, and of which job it is: of what, is read within the tenant.
    await runner.query(`GRANT SELECT (job_id, updated_at) ON documents TO ${PLATFORM_ROLE}`);
    // The platform counts them by tenant.
    await runner.query(`CREATE INDEX documents_failed_idx ON documents (tenant_id) WHERE status = 'failed'`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
