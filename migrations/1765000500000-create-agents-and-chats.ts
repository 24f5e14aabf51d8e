import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import {
  CURRENT_USER,
  isolateByTenant,
  keepTokensToKbs,
  narrowByGrants,
  SEES_ALL,
} from './row-level-security.js';

/** The API token that acts; NULL where a user or the system does. */
const CURRENT_TOKEN = `(SELECT nullif(current_setting('app.token_id', true), '')::uuid)`;
/** The agents that the acting API token is kept to; NULL where it is kept to none. */
const TOKEN_AGENTS = `(SELECT nullif(current_setting('app.agent_ids', true), '')::uuid[])`;
const KB_IS_VISIBLE = 'kb_id IN (SELECT id FROM knowledge_bases)';

/** What a token says is the token's, not its creator's. */
const IS_MINE = `token_id = ${CURRENT_TOKEN}
  OR (${CURRENT_TOKEN} IS NULL AND token_id IS NULL AND user_id = ${CURRENT_USER})`;
/** Sees all, and is nobody: who sees all of a tenant's documents does not thereby read its chats. */
const IS_SYSTEM = `(SELECT current_setting('app.access', true) = 'all'
  AND nullif(current_setting('app.user_id', true), '') IS NULL)`;
/** Set for single transactions of those who may. */
const READS_ALL = `(SELECT current_setting('app.chats', true) = 'all')`;
/**
 * Whether somebody else may read what a chat says: answers quote documents, and the title and later messages may repeat
 * them, so that a chat is read as a whole by whoever sees all that it rests on. Of a document that is gone nobody knows any
 * more whether it was hidden.
 */
const RESTS_ON_WHAT_IS_SEEN = `(${SEES_ALL}
  OR (SELECT count(*) FROM documents WHERE id = ANY (document_ids)) = cardinality(document_ids))`;

/** Agents, chats with them and with knowledge bases, and what people think of the answers. */
export class CreateAgentsAndChats1765000500000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await this.createAgents(runner);
    await this.countAgents(runner);
    await this.createChats(runner);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }

  private async createAgents(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE agents (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        name text NOT NULL,
        slug text NOT NULL,
        description text NOT NULL,
        -- Null, of these four: as in the knowledge base.
        system_prompt text,
        model text,
        temperature double precision CHECK (temperature BETWEEN 0 AND 2),
        max_tokens integer CHECK (max_tokens > 0),
        enabled_tools text[] NOT NULL,
        tool_config jsonb NOT NULL,
        is_active boolean NOT NULL,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (kb_id, slug),
        UNIQUE (id, kb_id, tenant_id),
        FOREIGN KEY (kb_id, tenant_id) REFERENCES knowledge_bases (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX agents_tenant_id_idx ON agents (tenant_id);
    `);
    await isolateByTenant(runner, 'agents');
    await narrowByGrants(runner, 'agents', KB_IS_VISIBLE);
    await keepTokensToKbs(runner, 'agents');
    await keepTokensToAgents(runner, 'agents', 'id');
  }

  /** The counter and its limit have been there before there were any agents. */
  private async countAgents(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE FUNCTION count_agents() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      DECLARE
        sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
        change record;
        counters tenant_counters;
        most bigint;
      BEGIN
        FOR change IN SELECT tenant_id, sign * count(*) AS rows FROM changed GROUP BY tenant_id ORDER BY tenant_id LOOP
          PERFORM FROM tenants WHERE id = change.tenant_id FOR KEY SHARE;
          UPDATE tenant_counters c SET agents = c.agents + change.rows
          WHERE tenant_id = change.tenant_id RETURNING * INTO counters;
          most := (counters.limits->>'max_agents')::bigint;
          IF sign > 0 AND counters.agents > most THEN
            PERFORM overrun_limit(counters, 'max_agents', counters.agents - change.rows, most);
          END IF;
        END LOOP;
        RETURN NULL;
      END $$;
      CREATE TRIGGER agents_counted_in AFTER INSERT ON agents REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION count_agents();
      CREATE TRIGGER agents_counted_out AFTER DELETE ON agents REFERENCING OLD TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION count_agents();
    `);
  }

  private async createChats(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE chat_sessions (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        agent_id uuid,
        -- Whose it is: a user's or an API token's. Nobody's where the token is gone.
        user_id uuid REFERENCES users ON DELETE CASCADE,
        token_id uuid,
        -- Under which the caller knows it.
        external_id text,
        title text NOT NULL,
        metadata jsonb NOT NULL,
        message_count integer NOT NULL DEFAULT 0,
        -- What its answers were made from, each once. No references: what is gone was read all the same.
        document_ids uuid[] NOT NULL DEFAULT '{}',
        -- One message is answered at a time. The turn of a process that died ends by itself.
        turn_id uuid,
        turn_ends_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        last_message_at timestamptz NOT NULL DEFAULT now(),
        CHECK (num_nonnulls(user_id, token_id) <= 1),
        CHECK ((turn_id IS NULL) = (turn_ends_at IS NULL)),
        UNIQUE (id, tenant_id),
        FOREIGN KEY (kb_id, tenant_id) REFERENCES knowledge_bases (id, tenant_id) ON DELETE CASCADE,
        FOREIGN KEY (agent_id, kb_id, tenant_id) REFERENCES agents (id, kb_id, tenant_id)
          ON DELETE SET NULL (agent_id),
        FOREIGN KEY (token_id, tenant_id) REFERENCES api_tokens (id, tenant_id) ON DELETE SET NULL (token_id)
      );
      CREATE UNIQUE INDEX chat_sessions_user_external_id_key ON chat_sessions (kb_id, user_id, external_id);
      CREATE UNIQUE INDEX chat_sessions_token_external_id_key ON chat_sessions (kb_id, token_id, external_id);
      CREATE INDEX chat_sessions_tenant_id_idx ON chat_sessions (tenant_id, last_message_at);
      CREATE INDEX chat_sessions_user_id_idx ON chat_sessions (user_id, tenant_id, last_message_at);
      CREATE INDEX chat_sessions_token_id_idx ON chat_sessions (token_id, last_message_at);
      CREATE INDEX chat_sessions_agent_id_idx ON chat_sessions (agent_id);

      CREATE TABLE chat_messages (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        session_id uuid NOT NULL,
        -- Of the session, in the order in which they were said; an answer stands right behind its question.
        position integer NOT NULL,
        role text NOT NULL CHECK (role IN ('user', 'assistant')),
        content text NOT NULL,
        -- interrupted: whoever asked went away; failed: whoever answered did. What had been said by then is kept.
        status text NOT NULL DEFAULT 'complete' CHECK (status IN ('complete', 'interrupted', 'failed')),
        error_code text,
        -- Of answers alone.
        answered boolean,
        citations jsonb,
        tool_calls jsonb,
        model text,
        prompt_tokens integer,
        completion_tokens integer,
        credits bigint,
        retrieval_ms double precision,
        generation_ms double precision,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        UNIQUE (session_id, position),
        UNIQUE (id, tenant_id),
        FOREIGN KEY (session_id, tenant_id) REFERENCES chat_sessions (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX chat_messages_tenant_id_idx ON chat_messages (tenant_id, created_at);

      CREATE TABLE message_feedback (
        message_id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        rating smallint CHECK (rating IN (-1, 1)),
        comment text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        FOREIGN KEY (message_id, tenant_id) REFERENCES chat_messages (id, tenant_id) ON DELETE CASCADE
      );
    `);
    for (const table of ['chat_sessions', 'chat_messages', 'message_feedback']) {
      await isolateByTenant(runner, table);
    }
    await narrowByGrants(runner, 'chat_sessions', KB_IS_VISIBLE);
    await keepTokensToKbs(runner, 'chat_sessions');
    await keepTokensToAgents(runner, 'chat_sessions', 'agent_id');
    // Whoever reads everybody's chats goes on with none of them, and reads in none what is hidden from them elsewhere.
    await runner.query(`
      CREATE POLICY own_chats ON chat_sessions AS RESTRICTIVE FOR ALL TO ${TENANT_ROLE}
        USING (${IS_MINE} OR ${IS_SYSTEM} OR (${READS_ALL} AND ${RESTS_ON_WHAT_IS_SEEN})) WITH CHECK (${IS_MINE} OR ${IS_SYSTEM});
    `);
    await follow(runner, 'chat_messages', 'chat_sessions', 'session_id');
    await follow(runner, 'message_feedback', 'chat_messages', 'message_id');
  }
}

/** Keeps API tokens that are for single agents to those. An empty list is a limit too, and opens nothing. */
async function keepTokensToAgents(runner: QueryRunner, table: string, column: string): Promise<void> {
  const condition = `(SELECT nullif(current_setting('app.agent_ids', true), '') IS NULL)
    OR ${column} = ANY (${TOKEN_AGENTS}::uuid[])`;
  await runner.query(`
    CREATE POLICY token_agents ON ${table} AS RESTRICTIVE FOR ALL TO ${TENANT_ROLE}
      USING (${condition}) WITH CHECK (${condition});
  `);
}

/** Shows of a table what belongs to a row that is shown. Asked for each row by its key: there may be very many others. */
async function follow(runner: QueryRunner, table: string, owner: string, column: string): Promise<void> {
  const condition = `EXISTS (SELECT FROM ${owner} o WHERE o.id = ${table}.${column})`;
  await runner.query(`
    CREATE POLICY own_chats ON ${table} AS RESTRICTIVE FOR ALL TO ${TENANT_ROLE}
      USING (${condition}) WITH CHECK (${condition});
  `);
}
