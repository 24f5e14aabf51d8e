import { Injectable } from '@nestjs/common';
import { letTakeItsTime } from '../../foundation/database/statement-timeout.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { IncompleteStagingError } from '../documents/chunks.repository.js';
import type { ChunkOwner } from '../documents/staging.repository.js';

/** Chunks whose mentions one statement stores. */
const BATCH_SIZE = 500;
/** Chunks from which a single statement may take longer than a request's is allowed to. */
const LONG_STORE = 5_000;

/** What was extracted of a document, as its row keeps it. */
export interface DocumentGraph {
  extractor: 'names' | 'model';
  /** That it mentions. */
  entities: number;
  relations: number;
  /** Read by names, because a model gave no answer that can be used. */
  fallback_chunks: number;
  /** What there was no room for. */
  left_out_entities: number;
  left_out_relations: number;
}

/** A limit that the graph of a knowledge base has come to. */
export interface ReachedLimit {
  limit: 'max_entities_per_kb' | 'max_relations_per_kb';
  used: number;
  max: number;
}

export interface StoredGraph {
  graph: DocumentGraph;
  reached: ReachedLimit[];
}

/** Between asking which entities need a vector and storing them, one lost the document that had given it one. */
export class MissingVectorsError extends Error {
  override readonly name = 'MissingVectorsError';
}

interface Room {
  entities: number;
  relations: number;
  maxEntities: number | null;
  maxRelations: number | null;
  enforced: boolean;
}

interface Added {
  /** Not there before. */
  fresh: number;
  added: number;
  /** Of the document. */
  all: number;
}

/*
 * Everything is found row by row and by its key: sub-selects with a limit are never turned into joins. Tables that the same
 * transaction has just filled have no statistics, and joins would be planned as if there were nothing in them.
 */

/** The entity with a key. */
const ENTITY = (key: string) =>
  `LATERAL (SELECT e.id, e.embedding IS NULL AS lacks FROM graph_entities e WHERE e.kb_id = $2 AND e.key = ${key} LIMIT 1)`;
/** The chunk that a staged one has become. */
const CHUNK = `LATERAL (SELECT c.id FROM staged_chunks c WHERE c.document_id = $1 AND c.ordinal = x.ordinal LIMIT 1)`;
const RELATION = (ends: string, type: string) => `
  LATERAL (SELECT r.id FROM graph_relations r
           WHERE r.source_id = ${ends}source_id AND r.target_id = ${ends}target_id AND r.type = ${type} LIMIT 1)`;
const IS_RESTRICTED = '(SELECT restricted FROM documents WHERE id = $1)';

/** Those that are mentioned most come in first. */
const INSERT_ENTITIES = `
  WITH fresh AS MATERIALIZED (
    SELECT s.key, s.embedding, row_number() OVER (ORDER BY s.mentions DESC, s.key) AS place
    FROM staged_entities s LEFT JOIN ${ENTITY('s.key')} AS known ON true
    WHERE s.document_id = $1 AND known.id IS NULL
  ), added AS (
    INSERT INTO graph_entities (id, tenant_id, kb_id, key, open, embedding)
    SELECT gen_random_uuid(), $3, $2, key, NOT ${IS_RESTRICTED}, embedding
    FROM fresh WHERE place <= coalesce($4::bigint, place) ORDER BY key
    RETURNING id
  )
  SELECT (SELECT count(*) FROM fresh)::integer AS fresh, (SELECT count(*) FROM added)::integer AS added,
         (SELECT count(*) FROM staged_entities WHERE document_id = $1)::integer AS all`;

const GIVE_VECTORS = `
  WITH lacking AS MATERIALIZED (
    SELECT known.id, s.embedding FROM staged_entities s CROSS JOIN ${ENTITY('s.key')} AS known
    WHERE s.document_id = $1 AND s.embedding IS NOT NULL AND known.lacks
  )
  UPDATE graph_entities e SET embedding = lacking.embedding FROM lacking WHERE e.id = lacking.id`;

const INSERT_ENTITY_MENTIONS = `
  INSERT INTO graph_entity_mentions (entity_id, chunk_id, tenant_id, kb_id, document_id, restricted, name, type, description)
  SELECT entity.id, chunk.id, $3, $2, $1, ${IS_RESTRICTED}, m.name, m.type, m.description
  FROM staged_extractions x
  CROSS JOIN ${CHUNK} AS chunk
  CROSS JOIN jsonb_to_recordset(x.entities) AS m (key text, name text, type text, description text)
  CROSS JOIN ${ENTITY('m.key')} AS entity
  WHERE x.document_id = $1 AND x.ordinal >= $4 AND x.ordinal < $5`;

/** Relations of chunks whose ends both came in. */
const RELATIONS = `
  staged_extractions x
  CROSS JOIN jsonb_to_recordset(x.relations)
    AS m (source text, target text, type text, weight real, description text)
  CROSS JOIN ${ENTITY('m.source')} AS source
  CROSS JOIN ${ENTITY('m.target')} AS target
  CROSS JOIN LATERAL (SELECT source.id AS source_id, target.id AS target_id) AS ends`;

/** Those that the document says most for come in first. */
const INSERT_RELATIONS = `
  WITH wanted AS MATERIALIZED (
    SELECT ends.source_id, ends.target_id, m.type, sum(m.weight) AS weight
    FROM ${RELATIONS} WHERE x.document_id = $1 GROUP BY ends.source_id, ends.target_id, m.type
  ), fresh AS MATERIALIZED (
    SELECT w.*, row_number() OVER (ORDER BY weight DESC, source_id, target_id, type) AS place
    FROM wanted w LEFT JOIN ${RELATION('w.', 'w.type')} AS known ON true WHERE known.id IS NULL
  ), added AS (
    INSERT INTO graph_relations (id, tenant_id, kb_id, source_id, target_id, type, open)
    SELECT gen_random_uuid(), $3, $2, source_id, target_id, type, NOT ${IS_RESTRICTED}
    FROM fresh WHERE place <= coalesce($4::bigint, place) ORDER BY source_id, target_id, type
    RETURNING id
  )
  SELECT (SELECT count(*) FROM fresh)::integer AS fresh, (SELECT count(*) FROM added)::integer AS added,
         (SELECT count(*) FROM wanted)::integer AS all`;

const INSERT_RELATION_MENTIONS = `
  INSERT INTO graph_relation_mentions (relation_id, chunk_id, tenant_id, kb_id, document_id, restricted, weight, description)
  SELECT relation.id, chunk.id, $3, $2, $1, ${IS_RESTRICTED}, m.weight, m.description
  FROM ${RELATIONS}
  CROSS JOIN ${RELATION('ends.', 'm.type')} AS relation
  CROSS JOIN ${CHUNK} AS chunk
  WHERE x.document_id = $1 AND x.ordinal >= $4 AND x.ordinal < $5`;

/**
 * The graph of a knowledge base, as documents come into it. They go out of it with their chunks: triggers take away what
 * nobody mentions any more.
 */
@Injectable()
export class GraphStore {
  /**
   * Brings in what is staged of a document whose chunks have just been swapped in, in the same transaction and under its lock
   * of the knowledge base, which keeps the limits from being overrun by two at once.
   *
   * @param requireVectors of every entity; else those without one are found by their words alone
   * @returns null where nothing was extracted
   * @throws IncompleteStagingError, MissingVectorsError
   */
  async swapIn(
    tx: Tx,
    owner: ChunkOwner,
    chunkCount: number,
    { requireVectors, signal }: { requireVectors: boolean; signal?: AbortSignal },
  ): Promise<StoredGraph | null> {
    const { documentId, tenantId, kbId } = owner;
    const staged = await this.staged(tx, documentId);
    if (staged.chunks === 0) return null;
    if (staged.chunks !== chunkCount)
      throw new IncompleteStagingError(
        `${staged.chunks} of ${chunkCount} chunks are staged with an extraction.`,
      );
    if (chunkCount > LONG_STORE) await letTakeItsTime(tx);
    const room = await this.room(tx, kbId);
    const entities = await this.add(tx, INSERT_ENTITIES, owner, left(room, room.entities, room.maxEntities));
    await tx.query(GIVE_VECTORS, [documentId, kbId]);
    if (requireVectors) await this.requireVectors(tx, owner);
    const relations = await this.add(
      tx,
      INSERT_RELATIONS,
      owner,
      left(room, room.relations, room.maxRelations),
    );
    for (let start = 0; start < chunkCount; start += BATCH_SIZE) {
      signal?.throwIfAborted();
      const batch = [documentId, kbId, tenantId, start, start + BATCH_SIZE];
      await tx.query(INSERT_ENTITY_MENTIONS, batch);
      await tx.query(INSERT_RELATION_MENTIONS, batch);
    }
    return {
      graph: {
        extractor: staged.model > 0 ? 'model' : 'names',
        entities: entities.all - leftOut(entities),
        relations: relations.all - leftOut(relations),
        fallback_chunks: staged.fallbacks,
        left_out_entities: leftOut(entities),
        left_out_relations: leftOut(relations),
      },
      reached: [
        ...reached('max_entities_per_kb', room.entities, room.maxEntities, entities),
        ...reached('max_relations_per_kb', room.relations, room.maxRelations, relations),
      ],
    };
  }

  private async staged(
    tx: Tx,
    documentId: string,
  ): Promise<{ chunks: number; model: number; fallbacks: number }> {
    const [row] = await tx.query<[{ chunks: number; model: number; fallbacks: number }]>(
      `SELECT count(*)::integer AS chunks, (count(*) FILTER (WHERE extractor <> 'names'))::integer AS model,
              (count(*) FILTER (WHERE extractor = 'fallback'))::integer AS fallbacks
       FROM staged_extractions WHERE document_id = $1`,
      [documentId],
    );
    return row;
  }

  private async room(tx: Tx, kbId: string): Promise<Room> {
    const [row] = await tx.query<[Room]>(
      `SELECT kb.entity_count AS entities, kb.relation_count AS relations, c.enforced,
              (c.limits->>'max_entities_per_kb')::float8 AS "maxEntities",
              (c.limits->>'max_relations_per_kb')::float8 AS "maxRelations"
       FROM knowledge_bases kb JOIN tenant_counters c ON c.tenant_id = kb.tenant_id WHERE kb.id = $1`,
      [kbId],
    );
    return row;
  }

  private async add(
    tx: Tx,
    statement: string,
    { documentId, kbId, tenantId }: ChunkOwner,
    most: number | null,
  ): Promise<Added> {
    const [added] = await tx.query<[Added]>(statement, [documentId, kbId, tenantId, most]);
    return added;
  }

  private async requireVectors(tx: Tx, { documentId, kbId }: ChunkOwner): Promise<void> {
    const missing: unknown[] = await tx.query(
      `SELECT FROM staged_entities s CROSS JOIN ${ENTITY('s.key')} AS known
       WHERE s.document_id = $1 AND known.lacks LIMIT 1`,
      [documentId, kbId],
    );
    if (missing.length > 0) throw new MissingVectorsError('There are entities without a vector.');
  }
}

const leftOut = ({ fresh, added }: Added): number => fresh - added;

/** How many more there may be; null: any number. */
const left = ({ enforced }: Room, count: number, max: number | null): number | null =>
  enforced && max !== null ? Math.max(0, max - count) : null;

function reached(
  limit: ReachedLimit['limit'],
  before: number,
  max: number | null,
  { fresh, added }: Added,
): ReachedLimit[] {
  if (max === null || before + fresh <= max) return [];
  return [{ limit, used: before + added, max }];
}
