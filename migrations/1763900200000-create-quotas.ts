import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** What each plan limits; what is missing is no limit. */
const PLANS: Array<[name: string, limits: Record<string, number>]> = [
  [
    'free',
    {
      max_kbs: 1,
      max_documents_per_kb: 100,
      max_api_calls_per_month: 1_000,
      max_users: 3,
      max_storage_mb: 1_024,
      max_concurrent_queries: 2,
    },
  ],
  [
    'starter',
    {
      max_kbs: 3,
      max_documents_per_kb: 500,
      max_api_calls_per_month: 10_000,
      max_users: 10,
      max_storage_mb: 10_240,
      max_concurrent_queries: 5,
    },
  ],
  [
    'pro',
    {
      max_kbs: 10,
      max_documents_per_kb: 5_000,
      max_api_calls_per_month: 100_000,
      max_users: 50,
      max_storage_mb: 102_400,
      max_concurrent_queries: 10,
    },
  ],
  ['enterprise', {}],
];

/** Tables whose rows are counted by tenant. */
const COUNTED = ['members', 'knowledge_bases', 'documents', 'api_tokens'];

const countOf = (table: string) => `(SELECT count(*) FROM ${table} WHERE tenant_id = t.id)`;

/** Plans and limits, and counters that the database itself keeps, so that no number of parallel requests overruns them. */
export class CreateQuotas1763900200000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE plans (
        name text PRIMARY KEY,
        position integer NOT NULL UNIQUE,
        limits jsonb NOT NULL
      );

      ALTER TABLE tenants
        -- Limits of its own; missing is what the plan says, null is no limit.
        ADD COLUMN quotas jsonb NOT NULL DEFAULT '{}',
        -- Where false, what goes past a limit is told, and let through.
        ADD COLUMN enforce_quotas boolean NOT NULL DEFAULT true,
        -- Requests a minute, while an alert slows the tenant down.
        ADD COLUMN throttled_to integer CHECK (throttled_to >= 0);
      GRANT UPDATE (throttled_to) ON tenants TO ${TENANT_ROLE};

      CREATE TABLE tenant_counters (
        tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
        users bigint NOT NULL DEFAULT 0,
        kbs bigint NOT NULL DEFAULT 0,
        documents bigint NOT NULL DEFAULT 0,
        storage_bytes bigint NOT NULL DEFAULT 0,
        api_tokens bigint NOT NULL DEFAULT 0,
        agents bigint NOT NULL DEFAULT 0,
        -- Copies, so that whoever counts needs this one row: the plan's limits with the tenant's own over them.
        plan_tier text NOT NULL,
        limits jsonb NOT NULL,
        enforced boolean NOT NULL,
        -- By limit: how far it was overrun since somebody last looked, and when it was last told.
        overruns jsonb NOT NULL DEFAULT '{}',
        told_at jsonb NOT NULL DEFAULT '{}'
      -- Written again with everything that is added or removed: room for its versions.
      ) WITH (fillfactor = 50);
      CREATE INDEX tenant_counters_overruns_idx ON tenant_counters (tenant_id) WHERE overruns <> '{}';
    `);
    for (const [index, [name, limits]] of PLANS.entries()) {
      await runner.query('INSERT INTO plans VALUES ($1, $2, $3)', [name, index, JSON.stringify(limits)]);
    }
    await runner.query(`
      ALTER TABLE tenants ADD FOREIGN KEY (plan_tier) REFERENCES plans (name);
    `);
    await this.followTenants(runner);
    await this.count(runner);
    await this.countWhatIsThere(runner);
    await openToPlatform(runner, 'plans', 'SELECT');
    // Its limits are the platform's to change.
    await isolateByTenant(runner, 'tenant_counters', {
      privileges: 'SELECT, UPDATE (users, kbs, documents, storage_bytes, api_tokens, agents, overruns)',
    });
    await openToPlatform(runner, 'tenant_counters', 'SELECT, INSERT, UPDATE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }

  /** A tenant has its counters from the beginning; they know its limits. */
  private async followTenants(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE FUNCTION copy_limits_to_counters() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      BEGIN
        INSERT INTO tenant_counters (tenant_id, plan_tier, limits, enforced)
        VALUES (NEW.id, NEW.plan_tier, (SELECT limits FROM plans WHERE name = NEW.plan_tier) || NEW.quotas,
                NEW.enforce_quotas)
        ON CONFLICT (tenant_id) DO UPDATE
          SET plan_tier = excluded.plan_tier, limits = excluded.limits, enforced = excluded.enforced;
        RETURN NULL;
      END $$;
      CREATE TRIGGER tenants_counted AFTER INSERT ON tenants
        FOR EACH ROW EXECUTE FUNCTION copy_limits_to_counters();
      CREATE TRIGGER tenants_limited AFTER UPDATE OF plan_tier, quotas, enforce_quotas ON tenants
        FOR EACH ROW WHEN ((OLD.plan_tier, OLD.quotas, OLD.enforce_quotas)
                           IS DISTINCT FROM (NEW.plan_tier, NEW.quotas, NEW.enforce_quotas))
        EXECUTE FUNCTION copy_limits_to_counters();
    `);
  }

  /**
   * Locks are taken in one order: the knowledge base, the tenant (shared, as any reference to it), its counters. Whoever
   * counts holds the counters until the transaction ends, so that the next one sees what it has left.
   */
  private async count(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE FUNCTION overrun_limit(counters tenant_counters, limit_name text, used numeric, most numeric) RETURNS void
      LANGUAGE plpgsql SET search_path = public AS $$
      BEGIN
        IF counters.enforced THEN
          RAISE EXCEPTION 'The limit % of this tenant is reached.', limit_name USING
            ERRCODE = 'EQ001',
            DETAIL = json_build_object('tenant_id', counters.tenant_id, 'limit', limit_name, 'used', used, 'max', most,
                                       'plan_tier', counters.plan_tier)::text;
        END IF;
        UPDATE tenant_counters
        SET overruns = overruns || jsonb_build_object(limit_name, jsonb_build_object('used', used, 'max', most))
        WHERE tenant_id = counters.tenant_id;
      END $$;

      -- By how much a tenant's counters change. What shrinks is never refused, however far it is past its limit.
      CREATE FUNCTION change_tenant_counters(tenant uuid, by_users bigint, by_kbs bigint, by_documents bigint,
                                             by_bytes bigint, by_api_tokens bigint) RETURNS tenant_counters
      LANGUAGE plpgsql SET search_path = public AS $$
      DECLARE
        counters tenant_counters;
      BEGIN
        PERFORM FROM tenants WHERE id = tenant FOR KEY SHARE;
        UPDATE tenant_counters c
        SET users = c.users + by_users, kbs = c.kbs + by_kbs, documents = c.documents + by_documents,
            storage_bytes = c.storage_bytes + by_bytes, api_tokens = c.api_tokens + by_api_tokens
        WHERE tenant_id = tenant RETURNING * INTO counters;
        IF by_users > 0 AND counters.users > (counters.limits->>'max_users')::bigint THEN
          PERFORM overrun_limit(counters, 'max_users', counters.users - by_users,
                                (counters.limits->>'max_users')::bigint);
        END IF;
        IF by_kbs > 0 AND counters.kbs > (counters.limits->>'max_kbs')::bigint THEN
          PERFORM overrun_limit(counters, 'max_kbs', counters.kbs - by_kbs, (counters.limits->>'max_kbs')::bigint);
        END IF;
        IF by_documents > 0 AND counters.documents > (counters.limits->>'max_documents')::bigint THEN
          PERFORM overrun_limit(counters, 'max_documents', counters.documents - by_documents,
                                (counters.limits->>'max_documents')::bigint);
        END IF;
        IF by_bytes > 0 AND counters.storage_bytes > (counters.limits->>'max_storage_mb')::bigint * 1048576 THEN
          PERFORM overrun_limit(counters, 'max_storage_mb',
                                round((counters.storage_bytes - by_bytes) / 1048576.0, 3),
                                (counters.limits->>'max_storage_mb')::bigint);
        END IF;
        IF by_api_tokens > 0 AND counters.api_tokens > (counters.limits->>'max_api_tokens')::bigint THEN
          PERFORM overrun_limit(counters, 'max_api_tokens', counters.api_tokens - by_api_tokens,
                                (counters.limits->>'max_api_tokens')::bigint);
        END IF;
        RETURN counters;
      END $$;

      CREATE FUNCTION count_tenant_rows() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      DECLARE
        sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
        change record;
      BEGIN
        -- In one order everywhere: somebody who leaves several tenants must not wait in a circle with another one.
        FOR change IN SELECT tenant_id, sign * count(*) AS rows FROM changed GROUP BY tenant_id ORDER BY tenant_id LOOP
          PERFORM change_tenant_counters(
            change.tenant_id,
            CASE TG_TABLE_NAME WHEN 'members' THEN change.rows ELSE 0 END,
            CASE TG_TABLE_NAME WHEN 'knowledge_bases' THEN change.rows ELSE 0 END,
            0, 0,
            CASE TG_TABLE_NAME WHEN 'api_tokens' THEN change.rows ELSE 0 END);
        END LOOP;
        RETURN NULL;
      END $$;

      CREATE FUNCTION count_documents() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      DECLARE
        sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
        change record;
        counters tenant_counters;
        fullest record;
      BEGIN
        -- Its own count is changed by whoever adds or deletes a document, after this: here it is what was there before.
        -- The platform deletes documents with their tenant only, which it has locked already.
        IF has_table_privilege('knowledge_bases', 'UPDATE') THEN
          PERFORM FROM knowledge_bases WHERE id IN (SELECT kb_id FROM changed) ORDER BY id FOR NO KEY UPDATE;
        END IF;
        FOR change IN
          SELECT tenant_id, sign * count(*) AS rows, sign * sum(size_bytes)::bigint AS bytes
          FROM changed GROUP BY tenant_id ORDER BY tenant_id
        LOOP
          counters := change_tenant_counters(change.tenant_id, 0, 0, change.rows, change.bytes, 0);
          IF sign > 0 AND counters.limits->>'max_documents_per_kb' IS NOT NULL THEN
            SELECT kb.document_count AS before, count(*) AS added INTO fullest
            FROM changed JOIN knowledge_bases kb ON kb.id = changed.kb_id
            WHERE changed.tenant_id = change.tenant_id
            GROUP BY kb.id, kb.document_count ORDER BY kb.document_count + count(*) DESC LIMIT 1;
            IF fullest.before + fullest.added > (counters.limits->>'max_documents_per_kb')::bigint THEN
              PERFORM overrun_limit(counters, 'max_documents_per_kb', fullest.before,
                                    (counters.limits->>'max_documents_per_kb')::bigint);
            END IF;
          END IF;
        END LOOP;
        RETURN NULL;
      END $$;

      CREATE FUNCTION count_resized_document() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      BEGIN
        PERFORM FROM knowledge_bases WHERE id = NEW.kb_id FOR NO KEY UPDATE;
        PERFORM change_tenant_counters(NEW.tenant_id, 0, 0, 0, NEW.size_bytes - OLD.size_bytes, 0);
        RETURN NULL;
      END $$;
    `);
    for (const table of COUNTED) await this.countTable(runner, table);
    // Documents are updated often, and their size hardly ever: a trigger for each row is asked only then.
    await runner.query(`
      CREATE TRIGGER documents_resized AFTER UPDATE OF size_bytes ON documents
        FOR EACH ROW WHEN (OLD.size_bytes IS DISTINCT FROM NEW.size_bytes) EXECUTE FUNCTION count_resized_document()`);
  }

  private async countTable(runner: QueryRunner, table: string): Promise<void> {
    const count = table === 'documents' ? 'count_documents' : 'count_tenant_rows';
    await runner.query(`
      CREATE TRIGGER ${table}_counted_in AFTER INSERT ON ${table} REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION ${count}();
      CREATE TRIGGER ${table}_counted_out AFTER DELETE ON ${table} REFERENCING OLD TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION ${count}();
    `);
  }

  private async countWhatIsThere(runner: QueryRunner): Promise<void> {
    const force = (how: string) =>
      runner.query(
        ['tenants', ...COUNTED].map(table => `ALTER TABLE ${table} ${how} ROW LEVEL SECURITY`).join('; '),
      );
    // The owner reads all rows, whatever their tenant.
    await force('NO FORCE');
    await runner.query(`
      INSERT INTO tenant_counters (tenant_id, users, kbs, documents, storage_bytes, api_tokens, plan_tier, limits, enforced)
      SELECT t.id, ${countOf('members')}, ${countOf('knowledge_bases')}, coalesce(d.count, 0), coalesce(d.bytes, 0),
             ${countOf('api_tokens')}, t.plan_tier, p.limits || t.quotas, t.enforce_quotas
      FROM tenants t JOIN plans p ON p.name = t.plan_tier
      LEFT JOIN (SELECT tenant_id, count(*) AS count, sum(size_bytes) AS bytes FROM documents GROUP BY tenant_id) d
        ON d.tenant_id = t.id
    `);
    await force('FORCE');
  }
}
