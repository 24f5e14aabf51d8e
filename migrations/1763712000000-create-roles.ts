import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE, TENANT_ROLE } from '../src/foundation/database/roles.js';

export class CreateRoles1763712000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    for (const role of [TENANT_ROLE, PLATFORM_ROLE]) {
      // Roles belong to the whole server: another database of it may have made them already, perhaps just now.
      await runner.query(`
        DO $$ BEGIN
          CREATE ROLE ${role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$`);
      await runner.query(`
        DO $$ BEGIN
          IF NOT pg_has_role('${role}', 'SET') THEN GRANT ${role} TO CURRENT_USER; END IF;
        END $$`);
      await runner.query(`GRANT USAGE ON SCHEMA public TO ${role}`);
    }
    await runner.query('CREATE EXTENSION IF NOT EXISTS vector');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
