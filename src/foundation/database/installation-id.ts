import type { DataSource } from 'typeorm';

/**
 * Names the database itself, whatever address it was reached by: the same for every process of an installation, and
 * no two installations have the same, though they may share a PostgreSQL server and a Redis.
 */
export async function installationId(dataSource: DataSource): Promise<string> {
  const [{ id }] = await dataSource.query(
    `SELECT (pg_control_system()).system_identifier || '-' || oid AS id FROM pg_database WHERE datname = current_database()`,
  );
  return id as string;
}
