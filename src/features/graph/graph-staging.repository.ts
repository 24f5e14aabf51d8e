import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { halfvecLiteral } from '../documents/halfvec.js';
import type { ChunkOwner } from '../documents/staging.repository.js';
import type { Extraction } from './extraction.js';

/** A staged chunk of which nothing has been extracted yet. */
export interface UnextractedChunk {
  ordinal: number;
  heading: string | null;
  text: string;
}

export interface StagedExtraction extends Extraction {
  ordinal: number;
  /** `fallback`: by names, after a model had given no answer that can be used. */
  extractor: 'names' | 'model' | 'fallback';
}

export interface NameWithoutVector {
  key: string;
  name: string;
}

/**
 * What an ingestion has extracted so far of a document, kept apart from the graph until all of it is there. Only the system
 * sees it.
 */
@Injectable()
export class GraphStagingRepository {
  /** From how many chunks something was extracted already, and from how many of them by a model. */
  async extracted(tx: Tx, documentId: string): Promise<{ chunks: number; byModel: number }> {
    const [row] = await tx.query<[{ chunks: number; byModel: number }]>(
      `SELECT count(*)::integer AS chunks, (count(*) FILTER (WHERE extractor = 'model'))::integer AS "byModel"
       FROM staged_extractions WHERE document_id = $1`,
      [documentId],
    );
    return row;
  }

  /** The next chunks without an extraction behind an ordinal, in their order. */
  nextUnextracted(tx: Tx, documentId: string, after: number, limit: number): Promise<UnextractedChunk[]> {
    return tx.query(
      `SELECT ordinal, heading, text FROM staged_chunks c
       WHERE document_id = $1 AND ordinal > $2
         AND NOT EXISTS (SELECT FROM staged_extractions x
                         WHERE x.document_id = c.document_id AND x.ordinal = c.ordinal)
       ORDER BY ordinal LIMIT $3`,
      [documentId, after, limit],
    );
  }

  async addExtractions(
    tx: Tx,
    { documentId, tenantId, kbId }: ChunkOwner,
    extractions: readonly StagedExtraction[],
  ): Promise<void> {
    await tx.query(
      `INSERT INTO staged_extractions (document_id, tenant_id, kb_id, ordinal, extractor, entities, relations)
       SELECT $1, $2, $3, x.ordinal, x.extractor, x.entities, x.relations
       FROM jsonb_to_recordset($4::jsonb) AS x (ordinal integer, extractor text, entities jsonb, relations jsonb)`,
      [documentId, tenantId, kbId, JSON.stringify(extractions)],
    );
    // In one order: two batches of a document may name the same.
    await tx.query(
      `INSERT INTO staged_entities (document_id, tenant_id, kb_id, key, name, mentions)
       SELECT $1, $2, $3, e.key, min(e.name), count(*)
       FROM jsonb_to_recordset($4::jsonb) AS e (key text, name text) GROUP BY e.key ORDER BY e.key
       ON CONFLICT (document_id, key) DO UPDATE SET mentions = staged_entities.mentions + excluded.mentions`,
      [
        documentId,
        tenantId,
        kbId,
        JSON.stringify(
          extractions.flatMap(({ entities }) => entities.map(({ key, name }) => ({ key, name }))),
        ),
      ],
    );
  }

  /**
   * The next names behind a key whose entities have no vector: neither staged, nor in the graph by another document, which
   * keeps it there.
   *
   * @param anew whether those in the graph are of another model
   * @param most entities that the knowledge base may have, of which those that are named most come in; null: any number
   */
  nextWithoutVector(
    tx: Tx,
    { documentId, kbId }: Pick<ChunkOwner, 'documentId' | 'kbId'>,
    { anew, most, after, limit }: { anew: boolean; most: number | null; after: string; limit: number },
  ): Promise<NameWithoutVector[]> {
    return tx.query(
      `SELECT s.key, s.name FROM staged_entities s
       WHERE s.document_id = $1 AND s.key > $3 AND s.embedding IS NULL
         AND ($4 OR (
           SELECT e.id FROM graph_entities e WHERE e.kb_id = $2 AND e.key = s.key AND e.embedding IS NOT NULL
             AND (SELECT true FROM graph_entity_mentions m WHERE m.entity_id = e.id AND m.document_id <> $1 LIMIT 1)
           LIMIT 1) IS NULL)
         AND ($5::bigint IS NULL OR s.key IN (
           SELECT key FROM staged_entities WHERE document_id = $1 ORDER BY mentions DESC, key LIMIT $5::bigint))
       ORDER BY s.key LIMIT $6`,
      [documentId, kbId, after, anew, most, limit],
    );
  }

  /** @param vectors of unit length, one for each of the keys */
  async addVectors(
    tx: Tx,
    documentId: string,
    keys: readonly string[],
    vectors: ReadonlyArray<readonly number[]>,
  ): Promise<void> {
    await tx.query(
      // No join: it would be planned as if there were nothing in the table, which the same ingestion has just filled.
      `UPDATE staged_entities s SET embedding =
         (SELECT v.literal::halfvec FROM unnest($2::text[], string_to_array($3, E'\\n')) AS v (key, literal)
          WHERE v.key = s.key)
       WHERE s.document_id = $1 AND s.key = ANY ($2::text[])`,
      [documentId, keys, vectors.map(halfvecLiteral).join('\n')],
    );
  }
}
