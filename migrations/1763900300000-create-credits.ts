import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import { CREDIT_FUNCTIONS, creditFunctions } from './credit-functions.sql.js';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** Prices with their history, and for each tenant an account of prepaid credits with an append-only ledger. */
export class CreateCredits1763900300000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE prices (
        -- In this order prices were set, whatever the clock said.
        sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        operation text NOT NULL CHECK (operation IN
          ('query', 'embedding_tokens', 'input_tokens', 'output_tokens', 'page_parsed', 'storage_mb_month')),
        -- Null: of every model that has no price of its own.
        model text,
        -- Null: from here on there is no such price.
        micro_credits bigint CHECK (micro_credits BETWEEN 0 AND 9007199254740991),
        valid_from timestamptz(3) NOT NULL,
        created_by uuid REFERENCES users ON DELETE SET NULL
      );
      CREATE INDEX prices_operation_idx ON prices (operation, model, sequence);
      CREATE INDEX prices_created_by_idx ON prices (created_by);

      CREATE TABLE credit_accounts (
        tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
        -- What is available: without what open reservations hold.
        balance bigint NOT NULL DEFAULT 0,
        held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
        -- All that was ever granted.
        granted bigint NOT NULL DEFAULT 0,
        last_grant bigint,
        -- Null: a tenth of the last grant.
        low_threshold bigint CHECK (low_threshold BETWEEN 0 AND 9007199254740991),
        is_low boolean NOT NULL DEFAULT false,
        is_exhausted boolean NOT NULL DEFAULT false,
        storage_charged_on date,
        -- Of the newest entry of the ledger.
        sequence bigint NOT NULL DEFAULT 0
      -- One row is written again with every movement: room for its versions, without touching an index.
      ) WITH (fillfactor = 50);

      CREATE TABLE credit_grants (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES credit_accounts ON DELETE CASCADE,
        sequence bigint NOT NULL,
        amount bigint NOT NULL CHECK (amount > 0),
        remaining bigint NOT NULL,
        expired bigint NOT NULL DEFAULT 0,
        expires_at timestamptz(3),
        can_expire boolean GENERATED ALWAYS AS (remaining > 0 AND expires_at IS NOT NULL) STORED,
        CHECK (remaining >= 0 AND expired >= 0 AND remaining + expired <= amount)
      );
      CREATE INDEX credit_grants_remaining_idx ON credit_grants (tenant_id, expires_at, sequence) WHERE remaining > 0;
      CREATE INDEX credit_grants_expires_at_idx ON credit_grants (expires_at) WHERE can_expire;
      CREATE INDEX credit_grants_tenant_id_idx ON credit_grants (tenant_id, sequence);

      -- Kept for a time only after they have ended; what they moved stays in the ledger.
      CREATE TABLE credit_reservations (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES credit_accounts ON DELETE CASCADE,
        operation text NOT NULL,
        estimate bigint NOT NULL CHECK (estimate > 0),
        status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'committed', 'released', 'expired')),
        -- What the operation cost, and what of that was taken.
        cost bigint CHECK (cost >= 0),
        charged bigint CHECK (charged BETWEEN 0 AND cost),
        -- As they were at the time: these count, whatever prices are set meanwhile.
        prices jsonb NOT NULL,
        -- Which grants it came from, those that expire first in front.
        draws jsonb NOT NULL,
        month date NOT NULL,
        token_id uuid,
        budget bigint,
        user_id uuid,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz NOT NULL,
        closed_at timestamptz,
        CHECK ((status = 'committed') = (charged IS NOT NULL))
      );
      CREATE INDEX credit_reservations_open_idx ON credit_reservations (expires_at, tenant_id) WHERE status = 'open';
      CREATE INDEX credit_reservations_tenant_id_idx ON credit_reservations (tenant_id);

      CREATE TABLE credit_ledger (
        tenant_id uuid NOT NULL,
        -- From 1, without a gap.
        sequence bigint NOT NULL,
        id uuid NOT NULL UNIQUE,
        type text NOT NULL CHECK (type IN ('grant', 'reserve', 'commit', 'release', 'expire', 'adjust')),
        -- What it changed the balance by. A commit of what was reserved changes nothing any more.
        delta bigint NOT NULL,
        amount bigint NOT NULL CHECK (amount >= 0),
        balance_after bigint NOT NULL,
        reservation_id uuid,
        grant_id uuid,
        operation text,
        -- Quantities, and the prices used.
        lines jsonb NOT NULL,
        idempotency_key text NOT NULL,
        -- No references: who is gone has still done it.
        token_id uuid,
        user_id uuid,
        note text,
        created_at timestamptz(3) NOT NULL,
        PRIMARY KEY (tenant_id, sequence),
        UNIQUE (tenant_id, idempotency_key),
        -- The account is locked already by whoever appends; a reference to the tenant would lock one more row.
        FOREIGN KEY (tenant_id) REFERENCES credit_accounts ON DELETE CASCADE
      );
      CREATE INDEX credit_ledger_type_idx ON credit_ledger (tenant_id, type, sequence);
      CREATE INDEX credit_ledger_operation_idx ON credit_ledger (tenant_id, operation, sequence);
      CREATE INDEX credit_ledger_token_id_idx ON credit_ledger (tenant_id, token_id, sequence) WHERE token_id IS NOT NULL;
      CREATE INDEX credit_ledger_created_at_idx ON credit_ledger (tenant_id, created_at);

      -- What was spent in a month (UTC), by token; the nil UUID stands for what no token has spent.
      CREATE TABLE credit_months (
        tenant_id uuid NOT NULL REFERENCES credit_accounts ON DELETE CASCADE,
        month date NOT NULL,
        token_id uuid NOT NULL,
        spent bigint NOT NULL DEFAULT 0,
        held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
        PRIMARY KEY (tenant_id, month, token_id)
      ) WITH (fillfactor = 50);

      -- The API token on whose budget a document is ingested; no reference: who is gone has still done it.
      ALTER TABLE documents ADD COLUMN token_id uuid;
    `);
    // Written once, by nobody changed or deleted.
    await openToPlatform(runner, 'prices', 'SELECT, INSERT');
    await isolateByTenant(runner, 'credit_ledger', { privileges: 'SELECT, INSERT' });
    for (const table of ['credit_accounts', 'credit_grants', 'credit_reservations', 'credit_months'])
      await isolateByTenant(runner, table, { privileges: 'SELECT, INSERT, UPDATE' });
    // What the sweep needs to find tenants in which something is due, and reservations that are long over: no amounts.
    await openToPlatform(runner, 'credit_accounts', 'SELECT (tenant_id, storage_charged_on)');
    await openToPlatform(
      runner,
      'credit_reservations',
      'SELECT (id, tenant_id, status, expires_at, closed_at), DELETE',
    );
    await openToPlatform(runner, 'credit_grants', 'SELECT (tenant_id, can_expire, expires_at)');

    for (const statement of creditFunctions) await runner.query(statement);
    await runner.query(`
      REVOKE EXECUTE ON FUNCTION ${CREDIT_FUNCTIONS} FROM PUBLIC;
      GRANT EXECUTE ON FUNCTION ${CREDIT_FUNCTIONS} TO ${TENANT_ROLE}`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
