import type { MigrationInterface, QueryRunner } from 'typeorm';
import { graphFunctions } from './graph-functions.sql.js';
import {
  DOCUMENT_IS_READABLE,
  isolateByTenant,
  keepTokensToKbs,
  narrowByGrants,
} from './row-level-security.js';

const KB_IS_VISIBLE = 'kb_id IN (SELECT id FROM knowledge_bases)';

/**
 * Knowledge graphs: entities and relations of a knowledge base, and where in its chunks they are mentioned. Everything that is
 * said of one stands on its mentions, which are hidden like the chunks that they are in. So it is shown only to those who see
 * a mention, and made from those mentions alone.
 */
export class CreateKnowledgeGraphs1765000600000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE knowledge_bases
        ADD COLUMN entity_count integer NOT NULL DEFAULT 0,
        ADD COLUMN relation_count integer NOT NULL DEFAULT 0;
      -- What was extracted of the searchable version, and how; null where nothing was.
      ALTER TABLE documents ADD COLUMN graph jsonb;
    `);
    await this.createGraph(runner);
    await this.createStaging(runner);
    for (const statement of graphFunctions) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }

  /**
   * Between the tables references carry the tenant, and not the knowledge base too: cascades would look for rows by it, through
   * the index of all that it has, once for each row that goes.
   */
  private async createGraph(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE graph_entities (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        -- The name, in the form in which equal names are equal.
        key text NOT NULL,
        -- Whether a document mentions it that is not restricted; triggers keep it.
        open boolean NOT NULL DEFAULT false,
        -- Of the name; null where none was made.
        embedding halfvec,
        UNIQUE (kb_id, key),
        UNIQUE (id, tenant_id),
        FOREIGN KEY (kb_id, tenant_id) REFERENCES knowledge_bases (id, tenant_id) ON DELETE CASCADE
      -- Kept inline up to a page: all vectors of a knowledge base are read for a search.
      ) WITH (toast_tuple_target = 8160);

      CREATE TABLE graph_entity_mentions (
        entity_id uuid NOT NULL,
        chunk_id uuid NOT NULL,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        document_id uuid NOT NULL,
        -- As its document is; a trigger keeps it.
        restricted boolean NOT NULL,
        -- As they are there.
        name text NOT NULL,
        type text NOT NULL,
        description text,
        PRIMARY KEY (entity_id, chunk_id),
        FOREIGN KEY (entity_id, tenant_id) REFERENCES graph_entities (id, tenant_id) ON DELETE CASCADE,
        FOREIGN KEY (chunk_id, tenant_id) REFERENCES chunks (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX graph_entity_mentions_chunk_id_idx ON graph_entity_mentions (chunk_id);
      CREATE INDEX graph_entity_mentions_document_id_idx ON graph_entity_mentions (document_id);

      CREATE TABLE graph_relations (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        -- Of what has no direction, in the order of their keys.
        source_id uuid NOT NULL,
        target_id uuid NOT NULL,
        type text NOT NULL,
        open boolean NOT NULL DEFAULT false,
        CHECK (source_id <> target_id),
        UNIQUE (source_id, target_id, type),
        UNIQUE (id, tenant_id),
        FOREIGN KEY (kb_id, tenant_id) REFERENCES knowledge_bases (id, tenant_id) ON DELETE CASCADE,
        FOREIGN KEY (source_id, tenant_id) REFERENCES graph_entities (id, tenant_id) ON DELETE CASCADE,
        FOREIGN KEY (target_id, tenant_id) REFERENCES graph_entities (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX graph_relations_kb_id_idx ON graph_relations (kb_id);
      CREATE INDEX graph_relations_target_id_idx ON graph_relations (target_id);

      CREATE TABLE graph_relation_mentions (
        relation_id uuid NOT NULL,
        chunk_id uuid NOT NULL,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        document_id uuid NOT NULL,
        -- As its document is; a trigger keeps it.
        restricted boolean NOT NULL,
        weight real NOT NULL CHECK (weight > 0),
        description text,
        PRIMARY KEY (relation_id, chunk_id),
        FOREIGN KEY (relation_id, tenant_id) REFERENCES graph_relations (id, tenant_id) ON DELETE CASCADE,
        FOREIGN KEY (chunk_id, tenant_id) REFERENCES chunks (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX graph_relation_mentions_chunk_id_idx ON graph_relation_mentions (chunk_id);
      CREATE INDEX graph_relation_mentions_document_id_idx ON graph_relation_mentions (document_id);
    `);
    for (const [things, mentions, id] of [
      ['graph_entities', 'graph_entity_mentions', 'entity_id'],
      ['graph_relations', 'graph_relation_mentions', 'relation_id'],
    ] as const) {
      await isolateByTenant(runner, mentions);
      await narrowByGrants(runner, mentions, `${KB_IS_VISIBLE} AND ${DOCUMENT_IS_READABLE('document_id')}`);
      await keepTokensToKbs(runner, mentions);
      await isolateByTenant(runner, things);
      // As a rule the flag decides: mentions are only looked at where all of them are in restricted documents, and then by
      // their key. An EXISTS the planner might answer from a list of all mentions that there are.
      await narrowByGrants(
        runner,
        things,
        `${KB_IS_VISIBLE} AND (open OR (SELECT true FROM ${mentions} m WHERE m.${id} = ${things}.id LIMIT 1))`,
      );
      await keepTokensToKbs(runner, things);
    }
  }

  /** What an ingestion has extracted so far, chunk by chunk. */
  private async createStaging(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE staged_extractions (
        document_id uuid NOT NULL,
        ordinal integer NOT NULL,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        -- fallback: by names, after a model had given no answer that can be used.
        extractor text NOT NULL CHECK (extractor IN ('names', 'model', 'fallback')),
        entities jsonb NOT NULL,
        relations jsonb NOT NULL,
        PRIMARY KEY (document_id, ordinal),
        FOREIGN KEY (document_id, tenant_id) REFERENCES ingestions (document_id, tenant_id) ON DELETE CASCADE
      );

      -- The same by entity, to give each a vector, and to know which are mentioned most.
      CREATE TABLE staged_entities (
        document_id uuid NOT NULL,
        key text NOT NULL,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        name text NOT NULL,
        mentions integer NOT NULL,
        embedding halfvec,
        PRIMARY KEY (document_id, key),
        FOREIGN KEY (document_id, tenant_id) REFERENCES ingestions (document_id, tenant_id) ON DELETE CASCADE
      );
    `);
    for (const table of ['staged_extractions', 'staged_entities']) {
      await isolateByTenant(runner, table);
      // For the system alone.
      await narrowByGrants(runner, table, 'false');
      await keepTokensToKbs(runner, table);
    }
  }
}
