import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Chunk as SplitChunk } from '../../foundation/extraction/chunk-splitter.js';
import type { DocumentWarning } from './document.entity.js';
import { halfvecLiteral } from './halfvec.js';

/** Whose chunks these are. */
export interface ChunkOwner {
  documentId: string;
  tenantId: string;
  kbId: string;
}

/** What is known of a document once all of it has been split. */
export interface SplitResult {
  mimeType: string;
  pageCount: number;
  chunkCount: number;
  /** Estimated. */
  tokenCount: number;
  /** What a web page calls itself, and its address. */
  title: string | null;
  canonicalUrl: string | null;
  warnings: DocumentWarning[];
}

/** How far an ingestion has come that another attempt may go on with. */
export interface Checkpoint extends SplitResult {
  version: number;
  /** Everything that the chunks and their vectors depend on. */
  fingerprint: string;
  embeddingModel: string;
  /** Whether all chunks are staged; what is said of the document as a whole holds from then on. */
  split: boolean;
}

/** A staged chunk that has no vector yet. */
export interface UnembeddedChunk {
  ordinal: number;
  text: string;
  tokenCount: number;
}

/** PostgreSQL text cannot hold U+0000. */
const storable = (text: string): string => text.replaceAll('\0', ' ');

/**
 * What an ingestion has done so far of a document, kept apart from what is searchable until all of it is there: chunks,
 * then vectors, then {@link ChunksRepository.swapIn} makes them those of the document. Only the system sees the texts.
 */
@Injectable()
export class StagingRepository {
  async find(tx: Tx, documentId: string): Promise<Checkpoint | null> {
    const rows: Checkpoint[] = await tx.query(
      `SELECT version, fingerprint, embedding_model AS "embeddingModel", split, mime_type AS "mimeType",
              page_count AS "pageCount", chunk_count AS "chunkCount", token_count::float8 AS "tokenCount",
              title, canonical_url AS "canonicalUrl", warnings
       FROM ingestions WHERE document_id = $1`,
      [documentId],
    );
    return rows[0] ?? null;
  }

  /** Begins anew: throws away what was staged of the document. */
  async begin(
    tx: Tx,
    { documentId, tenantId, kbId }: ChunkOwner,
    { version, fingerprint, embeddingModel }: Pick<Checkpoint, 'version' | 'fingerprint' | 'embeddingModel'>,
  ): Promise<void> {
    await this.discard(tx, documentId);
    await tx.query(
      `INSERT INTO ingestions (document_id, tenant_id, kb_id, version, fingerprint, embedding_model)
       VALUES ($1, $2, $3, $4, $5, $6)`,
      [documentId, tenantId, kbId, version, fingerprint, embeddingModel],
    );
  }

  async addChunks(
    tx: Tx,
    { documentId, tenantId, kbId }: ChunkOwner,
    chunks: readonly SplitChunk[],
  ): Promise<void> {
    await tx.query(
      `INSERT INTO staged_chunks (document_id, tenant_id, kb_id, id, ordinal, text, heading, page, start_offset,
                                  end_offset, token_count)
       SELECT $1, $2, $3, * FROM unnest($4::uuid[], $5::integer[], $6::text[], $7::text[], $8::integer[],
                                        $9::integer[], $10::integer[], $11::integer[])`,
      [
        documentId,
        tenantId,
        kbId,
        chunks.map(() => uuidv7()),
        chunks.map(chunk => chunk.ordinal),
        chunks.map(chunk => storable(chunk.text)),
        chunks.map(chunk => (chunk.heading === null ? null : storable(chunk.heading))),
        chunks.map(chunk => chunk.page),
        chunks.map(chunk => chunk.startOffset),
        chunks.map(chunk => chunk.endOffset),
        chunks.map(chunk => chunk.tokenCount),
      ],
    );
  }

  /** Says that all chunks are staged. */
  async endSplit(tx: Tx, documentId: string, result: SplitResult): Promise<void> {
    await tx.query(
      `UPDATE ingestions SET split = true, mime_type = $2, page_count = $3, chunk_count = $4, token_count = $5,
              title = $6, canonical_url = $7, warnings = $8::jsonb
       WHERE document_id = $1`,
      [
        documentId,
        result.mimeType,
        result.pageCount,
        result.chunkCount,
        result.tokenCount,
        result.title,
        result.canonicalUrl,
        JSON.stringify(result.warnings),
      ],
    );
  }

  /** How many chunks have a vector already, and their tokens. */
  async embedded(tx: Tx, documentId: string): Promise<{ chunks: number; tokens: number }> {
    const [row] = await tx.query<[{ chunks: number; tokens: number }]>(
      `SELECT count(*)::integer AS chunks, coalesce(sum(c.token_count), 0)::float8 AS tokens
       FROM staged_vectors v JOIN staged_chunks c USING (document_id, ordinal) WHERE v.document_id = $1`,
      [documentId],
    );
    return row;
  }

  /** The next chunks without a vector behind an ordinal, in their order. */
  nextUnembedded(tx: Tx, documentId: string, after: number, limit: number): Promise<UnembeddedChunk[]> {
    return tx.query(
      `SELECT ordinal, text, token_count AS "tokenCount" FROM staged_chunks c
       WHERE document_id = $1 AND ordinal > $2
         AND NOT EXISTS (SELECT FROM staged_vectors v WHERE v.document_id = c.document_id AND v.ordinal = c.ordinal)
       ORDER BY ordinal LIMIT $3`,
      [documentId, after, limit],
    );
  }

  /** @param vectors of unit length, one for each of the ordinals */
  async addVectors(
    tx: Tx,
    { documentId, tenantId, kbId }: ChunkOwner,
    ordinals: readonly number[],
    vectors: ReadonlyArray<readonly number[]>,
  ): Promise<void> {
    // One string of many lines: of an array the driver would look through each character for some to escape.
    await tx.query(
      `INSERT INTO staged_vectors (document_id, tenant_id, kb_id, ordinal, embedding)
       SELECT $1, $2, $3, v.ordinal, v.literal::halfvec
       FROM unnest($4::integer[], string_to_array($5, E'\\n')) AS v (ordinal, literal)`,
      [documentId, tenantId, kbId, ordinals, vectors.map(halfvecLiteral).join('\n')],
    );
  }

  /** As the system. */
  async discard(tx: Tx, documentId: string): Promise<void> {
    await tx.query('DELETE FROM ingestions WHERE document_id = $1', [documentId]);
  }

  /** For whoever stops the ingestion of a document that they may change, and does not see what is staged of it. */
  async discardUnseen(tx: Tx, documentId: string): Promise<void> {
    const [{ access }] = await tx.query<[{ access: string | null }]>(
      `SELECT current_setting('app.access', true) AS access, set_local('app.access', 'all')`,
    );
    await this.discard(tx, documentId);
    await tx.query(`SELECT set_local('app.access', $1)`, [access ?? '']);
  }
}
