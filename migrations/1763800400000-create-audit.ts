import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE, TENANT_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant } from './row-level-security.js';

/** A chain of audit entries for each tenant, and one for the platform, whose chain id is the nil UUID. */
export class CreateAudit1763800400000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE audit_chains (
        chain_id uuid PRIMARY KEY,
        tenant_id uuid GENERATED ALWAYS AS (nullif(chain_id, '00000000-0000-0000-0000-000000000000')) STORED
          REFERENCES tenants ON DELETE CASCADE,
        -- Of the newest entry; 0 and 64 zeros before the first.
        sequence bigint NOT NULL,
        hash text NOT NULL,
        UNIQUE (tenant_id, chain_id)
      -- One row is written again with every change of the tenant: room for its versions, without touching an index.
      ) WITH (fillfactor = 50);
      CREATE TABLE audit_entries (
        chain_id uuid NOT NULL,
        tenant_id uuid GENERATED ALWAYS AS (nullif(chain_id, '00000000-0000-0000-0000-000000000000')) STORED,
        sequence bigint NOT NULL,
        occurred_at timestamptz(3) NOT NULL,
        actor_type text NOT NULL
          CHECK (actor_type IN ('user', 'api_token', 'platform_admin', 'system', 'anonymous')),
        actor_id uuid,
        actor_name text,
        -- Compared byte by byte: a prefix of it is a range of the index.
        action text COLLATE "C" NOT NULL,
        resource_type text NOT NULL,
        resource_id text,
        details jsonb NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('allowed', 'denied')),
        ip text,
        request_id text,
        prev_hash text NOT NULL,
        hash text NOT NULL,
        PRIMARY KEY (chain_id, sequence),
        -- The head is locked already by whoever appends; a reference to the tenant would lock one more row.
        FOREIGN KEY (tenant_id, chain_id) REFERENCES audit_chains (tenant_id, chain_id) ON DELETE CASCADE
      );
      -- The policy asks for tenant_id: with it in the index, entries are counted without a look at the table.
      CREATE INDEX audit_entries_occurred_at_idx ON audit_entries (chain_id, occurred_at, sequence) INCLUDE (tenant_id);
      CREATE INDEX audit_entries_action_idx ON audit_entries (chain_id, action, sequence) INCLUDE (tenant_id);
      CREATE INDEX audit_entries_actor_id_idx ON audit_entries (chain_id, actor_id, sequence) INCLUDE (tenant_id);
      CREATE INDEX audit_entries_resource_id_idx ON audit_entries (chain_id, resource_id, sequence)
        WHERE resource_id IS NOT NULL;
      CREATE INDEX audit_entries_denied_idx ON audit_entries (chain_id, sequence) INCLUDE (tenant_id)
        WHERE outcome = 'denied';
    `);
    await isolateByTenant(runner, 'audit_chains', { privileges: 'SELECT, INSERT, UPDATE' });
    // Written once, by nobody changed or deleted.
    await isolateByTenant(runner, 'audit_entries', { privileges: 'SELECT, INSERT' });
    // The platform appends to a tenant's chain what it does there, and reads its own chain alone.
    await runner.query(`
      CREATE POLICY platform_access ON audit_chains FOR ALL TO ${PLATFORM_ROLE} USING (true) WITH CHECK (true);
      GRANT SELECT, INSERT, UPDATE ON audit_chains TO ${PLATFORM_ROLE};
      CREATE POLICY platform_reads ON audit_entries FOR SELECT TO ${PLATFORM_ROLE} USING (tenant_id IS NULL);
      CREATE POLICY platform_appends ON audit_entries FOR INSERT TO ${PLATFORM_ROLE} WITH CHECK (true);
      GRANT SELECT, INSERT ON audit_entries TO ${PLATFORM_ROLE};
    `);
    await createAppend(runner);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}

/**
 * Appends entries to a chain, in the caller's transaction and as the caller's role. The lock on the chain's head makes
 * sequence and hash follow each other without a gap; whoever calls this last before COMMIT holds it shortest.
 *
 * An entry's hash is SHA-256 over its canonical JSON (RFC 8785) without the hash. Everything but the two values that
 * only the head knows is made ready by the caller: `parts` are the texts before, between and behind them.
 */
async function createAppend(runner: QueryRunner): Promise<void> {
  await runner.query(`
    CREATE FUNCTION append_audit(chain uuid, entries jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = public AS $$
    DECLARE
      head_sequence bigint;
      head_hash text;
      entry_hash text;
      entry jsonb;
    BEGIN
      -- Whoever waits for a row is woken with everybody else who does; this lock lets one in at a time, in their order.
      PERFORM pg_advisory_xact_lock(hashtextextended(chain::text, 1763800400000));
      SELECT c.sequence, c.hash INTO head_sequence, head_hash
      FROM audit_chains c WHERE c.chain_id = chain FOR UPDATE;
      IF NOT FOUND THEN
        INSERT INTO audit_chains (chain_id, sequence, hash) VALUES (chain, 0, repeat('0', 64)) ON CONFLICT DO NOTHING;
        SELECT c.sequence, c.hash INTO head_sequence, head_hash
        FROM audit_chains c WHERE c.chain_id = chain FOR UPDATE;
      END IF;
      FOR entry IN SELECT * FROM jsonb_array_elements(entries) LOOP
        head_sequence := head_sequence + 1;
        entry_hash := encode(sha256(convert_to(
          (entry->'parts'->>0) || head_hash || (entry->'parts'->>1) || head_sequence || (entry->'parts'->>2), 'UTF8')), 'hex');
        INSERT INTO audit_entries (chain_id, sequence, occurred_at, actor_type, actor_id, actor_name, action,
                                   resource_type, resource_id, details, outcome, ip, request_id, prev_hash, hash)
        VALUES (chain, head_sequence, (entry->>'time')::timestamptz, entry->'actor'->>'type',
                (entry->'actor'->>'id')::uuid, entry->'actor'->>'name', entry->>'action',
                entry->'resource'->>'type', entry->'resource'->>'id', entry->'details', entry->>'outcome',
                entry->>'ip', entry->>'request_id', head_hash, entry_hash)
        ON CONFLICT DO NOTHING;
        -- The lock on the head lets nobody else append: somebody has written past it.
        IF NOT FOUND THEN
          RAISE EXCEPTION 'The audit chain % does not end where its head says: nothing is changed until it does.', chain
            USING ERRCODE = 'data_corrupted';
        END IF;
        head_hash := entry_hash;
      END LOOP;
      UPDATE audit_chains SET sequence = head_sequence, hash = head_hash WHERE chain_id = chain;
    END $$;
    REVOKE EXECUTE ON FUNCTION append_audit(uuid, jsonb) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION append_audit(uuid, jsonb) TO ${TENANT_ROLE}, ${PLATFORM_ROLE};
  `);
}
