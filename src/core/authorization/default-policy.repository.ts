import type { DataSource } from 'typeorm';
import { PLATFORM_ROLE } from '../../foundation/database/roles.js';
import { readDefaultPolicy } from './default-policy.js';

/**
 * Makes the default rules in the database those of `casbin/policy.csv`, so that a new release brings its roles along.
 * Tenants' own rules, and who has which role, are left alone. Runs with the migrations.
 */
export async function writeDefaultPolicy(dataSource: DataSource): Promise<void> {
  const rules = readDefaultPolicy();
  const columns = [1, 2, 3, 4].map(index => rules.map(rule => rule[index]));
  await dataSource.transaction(async tx => {
    // Row-level security is forced on the owner of the tables too.
    await tx.query(`SET LOCAL ROLE ${PLATFORM_ROLE}`);
    await tx.query(
      `DELETE FROM casbin_rule r
       WHERE ptype = 'p' AND tenant_id IS NULL
         AND NOT EXISTS (
           SELECT FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS d(v0, v1, v2, v3)
           WHERE (d.v0, d.v1, d.v2, d.v3) = (r.v0, r.v1, r.v2, r.v3))`,
      columns,
    );
    await tx.query(
      `INSERT INTO casbin_rule (ptype, v0, v1, v2, v3)
       SELECT 'p', * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
       ON CONFLICT DO NOTHING`,
      columns,
    );
  });
}
