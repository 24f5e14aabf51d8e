import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** What tenants use: an event for each request and job, and what is rolled up of them by hour and day of UTC. */
export class CreateUsage1763900400000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- Kept for a time only; what is rolled up of them stays.
      CREATE TABLE usage_events (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        id uuid NOT NULL,
        time timestamptz NOT NULL,
        kind text NOT NULL CHECK (kind IN ('query', 'api', 'job')),
        operation text NOT NULL,
        -- Whatever these name may be gone: no references.
        kb_id uuid,
        agent_id uuid,
        user_id uuid,
        by_platform boolean NOT NULL,
        token_id uuid,
        token_kind text CHECK (token_kind IN ('live', 'test', 'publishable')),
        model text,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        embedding_tokens bigint NOT NULL,
        credits bigint NOT NULL,
        duration_us bigint NOT NULL,
        duration_bucket smallint NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('success', 'failure')),
        status smallint,
        PRIMARY KEY (tenant_id, id)
      );
      CREATE INDEX usage_events_time_idx ON usage_events (time);

      -- The rows of the current hour and day are written again every second: room for their versions.
      CREATE TABLE usage_rollups (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        grain text NOT NULL CHECK (grain IN ('hour', 'day')),
        at timestamptz NOT NULL,
        kind text NOT NULL,
        operation text NOT NULL,
        kb_id uuid,
        user_id uuid,
        token_id uuid,
        model text,
        calls bigint NOT NULL,
        failures bigint NOT NULL,
        duration_us bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        embedding_tokens bigint NOT NULL,
        credits bigint NOT NULL,
        UNIQUE NULLS NOT DISTINCT (tenant_id, grain, at, kind, operation, kb_id, user_id, token_id, model)
      ) WITH (fillfactor = 80);

      -- The same sums, small enough to be read for any length of time.
      CREATE TABLE usage_totals (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        grain text NOT NULL CHECK (grain IN ('hour', 'day')),
        at timestamptz NOT NULL,
        kind text NOT NULL,
        calls bigint NOT NULL,
        failures bigint NOT NULL,
        duration_us bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        embedding_tokens bigint NOT NULL,
        credits bigint NOT NULL,
        PRIMARY KEY (tenant_id, grain, at, kind)
      ) WITH (fillfactor = 50);
      -- For the platform, which asks for a time of all tenants.
      CREATE INDEX usage_totals_at_idx ON usage_totals (grain, at);

      CREATE TABLE usage_durations (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        grain text NOT NULL CHECK (grain IN ('hour', 'day')),
        at timestamptz NOT NULL,
        kind text NOT NULL,
        bucket smallint NOT NULL,
        calls bigint NOT NULL,
        PRIMARY KEY (tenant_id, grain, at, kind, bucket)
      ) WITH (fillfactor = 50);

      -- Who was active: members themselves, not their API tokens.
      CREATE TABLE usage_users (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        grain text NOT NULL CHECK (grain IN ('hour', 'day')),
        at timestamptz NOT NULL,
        user_id uuid NOT NULL,
        PRIMARY KEY (tenant_id, grain, at, user_id)
      );
      CREATE INDEX usage_users_at_idx ON usage_users (grain, at);

      -- How much a tenant held on a day, when it was last looked at.
      CREATE TABLE usage_levels (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        day date NOT NULL,
        users bigint NOT NULL,
        kbs bigint NOT NULL,
        documents bigint NOT NULL,
        storage_bytes bigint NOT NULL,
        PRIMARY KEY (tenant_id, day)
      );
      CREATE INDEX usage_levels_day_idx ON usage_levels (day);

      -- The last day of which the tenant's usage was told as an event.
      CREATE TABLE usage_announcements (
        tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
        day date NOT NULL
      );
    `);
    const read = { privileges: 'SELECT' };
    for (const table of ['usage_rollups', 'usage_totals', 'usage_levels', 'usage_announcements']) {
      await isolateByTenant(runner, table, read);
      await openToPlatform(runner, table, 'SELECT, INSERT, UPDATE, DELETE');
    }
    for (const table of ['usage_durations', 'usage_users']) await isolateByTenant(runner, table, read);
    await openToPlatform(runner, 'usage_durations', 'SELECT, INSERT, UPDATE, DELETE');
    await openToPlatform(runner, 'usage_users', 'SELECT, INSERT, DELETE');
    await isolateByTenant(runner, 'usage_events', read);
    await openToPlatform(runner, 'usage_events', 'SELECT, INSERT, DELETE');
    await createRecording(runner);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}

/**
 * Writes a batch of events with everything that is rolled up of them. An event that stands there already counts no second
 * time, so that a batch may be sent again when nobody knows whether it has arrived. Tables and rows are written in one
 * order by everybody, so that no two wait for each other.
 */
async function createRecording(runner: QueryRunner): Promise<void> {
  const sums = [
    'calls',
    'failures',
    'duration_us',
    'input_tokens',
    'output_tokens',
    'embedding_tokens',
    'credits',
  ];
  const added = `count(*), count(*) FILTER (WHERE outcome = 'failure'), ${sums
    .slice(2)
    .map(column => `sum(${column})`)
    .join(', ')}`;
  const update = sums.map(column => `${column} = known.${column} + excluded.${column}`).join(', ');
  const grains = `unnest(added) AS e, (VALUES ('day'), ('hour')) AS g (grain)`;
  const at = `date_trunc(grain, time, 'UTC')`;
  await runner.query(`
    CREATE FUNCTION record_usage(batch jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = public AS $$
    DECLARE
      known_tenants uuid[];
      added usage_events[];
    BEGIN
      -- Held until the end: whoever deletes one of them waits, and what is gone takes nothing else with it.
      known_tenants := ARRAY(
        SELECT t.id FROM tenants t
        WHERE t.id = ANY (ARRAY(SELECT DISTINCT (e->>'tenant_id')::uuid FROM jsonb_array_elements(batch) AS e))
          AND t.status <> 'erasing'
        ORDER BY t.id FOR KEY SHARE);
      WITH inserted AS (
        INSERT INTO usage_events
        SELECT e.* FROM jsonb_populate_recordset(NULL::usage_events, batch) AS e
        WHERE e.tenant_id = ANY (known_tenants)
        ON CONFLICT DO NOTHING
        RETURNING usage_events AS event)
      SELECT array_agg(event) INTO added FROM inserted;

      INSERT INTO usage_totals AS known (tenant_id, grain, at, kind, ${sums.join(', ')})
      SELECT tenant_id, grain, ${at}, kind, ${added} FROM ${grains}
      GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
      ON CONFLICT (tenant_id, grain, at, kind) DO UPDATE SET ${update};

      INSERT INTO usage_rollups AS known
        (tenant_id, grain, at, kind, operation, kb_id, user_id, token_id, model, ${sums.join(', ')})
      SELECT tenant_id, grain, ${at}, kind, operation, kb_id, user_id, token_id, model, ${added} FROM ${grains}
      GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
      ON CONFLICT (tenant_id, grain, at, kind, operation, kb_id, user_id, token_id, model) DO UPDATE SET ${update};

      INSERT INTO usage_durations AS known (tenant_id, grain, at, kind, bucket, calls)
      SELECT tenant_id, grain, ${at}, kind, duration_bucket, count(*) FROM ${grains}
      GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
      ON CONFLICT (tenant_id, grain, at, kind, bucket) DO UPDATE SET calls = known.calls + excluded.calls;

      INSERT INTO usage_users (tenant_id, grain, at, user_id)
      SELECT DISTINCT tenant_id, grain, ${at}, user_id FROM ${grains}
      WHERE user_id IS NOT NULL AND token_id IS NULL AND kind <> 'job' AND NOT by_platform
      ORDER BY 1, 2, 3, 4
      ON CONFLICT DO NOTHING;
    END $$;
    REVOKE EXECUTE ON FUNCTION record_usage(jsonb) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION record_usage(jsonb) TO ${PLATFORM_ROLE};
  `);
}
