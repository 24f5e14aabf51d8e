import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Tx } from '../../foundation/database/transaction.js';
import { halfvecLiteral } from './halfvec.js';

/** A chunk as the splitter and the embedding model made it. */
export interface NewChunk {
  /** Position in the document, from 0. */
  ordinal: number;
  text: string;
  /** Heading path that the chunk stands under; it is weighed with the text. */
  heading: string | null;
  /** From 1, where the format has pages. */
  page: number | null;
  /** Characters of the extracted text, end exclusive. */
  startOffset: number;
  endOffset: number;
  tokenCount: number;
  embedding: readonly number[];
}

/** A stored chunk, without its vectors; named as in the table and on the wire. */
export interface Chunk {
  id: string;
  document_id: string;
  ordinal: number;
  text: string;
  heading: string | null;
  page: number | null;
  start_offset: number;
  end_offset: number;
  token_count: number;
}

export interface ChunkOwner {
  documentId: string;
  tenantId: string;
  kbId: string;
}

/** `reweighNeeded`: the kb is too large to be reweighed in the same breath; call {@link ChunksRepository.reweigh} after it. */
export interface IndexState {
  reweighNeeded: boolean;
}

/** The kb does not exist, or not for this tenant. */
export class KnowledgeBaseGoneError extends Error {
  override readonly name = 'KnowledgeBaseGoneError';
}

/** Chunks in one statement: some 2 MB of parameters at 512 dimensions. */
const BATCH_SIZE = 256;

/** Up to here a reweighing takes about a second and happens in the transaction that made it necessary. */
const REWEIGH_INLINE_CHUNKS = 5_000;

/** How far, as a share, the average length may move from the one that the stored weights were computed with. */
const LENGTH_DRIFT = 0.1;

/** What the lexical vector of a chunk is made of. */
const weighedText = (chunk: string) => `concat_ws(E'\\n', ${chunk}.heading, ${chunk}.text)`;

/** Adds `sign` × the terms of the rows in `source` to the kb's document frequencies, with no row left at zero. */
const mergeTerms = (source: string, sign: '+' | '-', kb: string, tenant: string) => `
  MERGE INTO kb_terms AS known
  USING (SELECT term, ${sign}count(*)::integer AS change
         FROM ${source}, sparsevec_indices(lexical) AS term GROUP BY term) AS changed
  ON known.kb_id = ${kb} AND known.term = changed.term
  WHEN MATCHED AND known.document_frequency + changed.change <= 0 THEN DELETE
  WHEN MATCHED THEN UPDATE SET document_frequency = known.document_frequency + changed.change
  WHEN NOT MATCHED AND changed.change > 0 THEN
    INSERT (tenant_id, kb_id, term, document_frequency) VALUES (${tenant}, ${kb}, changed.term, changed.change)`;

const DELETE_CHUNKS = `
  WITH vectors AS (
    DELETE FROM chunk_vectors WHERE document_id = $1 AND kb_id = $2 RETURNING length, lexical
  ), texts AS (
    DELETE FROM chunks WHERE document_id = $1 AND kb_id = $2
  ), counted AS (
    UPDATE knowledge_bases AS kb
    SET chunk_count = kb.chunk_count - removed.chunks, lexeme_count = kb.lexeme_count - removed.lexemes
    FROM (SELECT count(*)::integer AS chunks, coalesce(sum(length), 0) AS lexemes FROM vectors) AS removed
    WHERE kb.id = $2
  )
  ${mergeTerms('vectors', '-', '$2', '$3::uuid')}`;

const INSERT_CHUNKS = `
  WITH input AS MATERIALIZED (
    SELECT * FROM unnest($6::uuid[], $7::integer[], $8::text[], $9::text[], $10::integer[],
                         $11::integer[], $12::integer[], $13::integer[], $14::text[])
      AS i (id, ordinal, text, heading, page, start_offset, end_offset, token_count, embedding)
  ), texts AS (
    INSERT INTO chunks (id, tenant_id, kb_id, document_id, ordinal, text, heading, page,
                        start_offset, end_offset, token_count)
    SELECT id, $3, $2, $1, ordinal, text, heading, page, start_offset, end_offset, token_count FROM input
  ), vectors AS (
    INSERT INTO chunk_vectors (chunk_id, tenant_id, kb_id, document_id, length, embedding, lexical)
    SELECT input.id, $3, $2, $1, bm25.length, input.embedding::halfvec, bm25.weights
    FROM input, bm25_weights($4::regconfig, ${weighedText('input')}, $5::real) AS bm25
    RETURNING length, lexical
  ), counted AS (
    UPDATE knowledge_bases AS kb
    SET chunk_count = kb.chunk_count + added.chunks, lexeme_count = kb.lexeme_count + added.lexemes
    FROM (SELECT count(*)::integer AS chunks, coalesce(sum(length), 0) AS lexemes FROM vectors) AS added
    WHERE kb.id = $2
  )
  ${mergeTerms('vectors', '+', '$2', '$3')}`;

interface KnowledgeBaseRow {
  configuration: string;
  reference_length: number;
  chunk_count: number;
  average_length: number;
}

/**
 * Chunks with their vectors, and the kb's statistics that BM25 needs. All of it changes in the caller's transaction
 * under a lock on the kb, so `kb_terms`, `chunk_count` and `lexeme_count` are always those of the stored chunks.
 */
@Injectable()
export class ChunksRepository {
  /**
   * Swaps the document's chunks for `chunks`.
   * @throws KnowledgeBaseGoneError
   */
  async replaceChunks(tx: Tx, owner: ChunkOwner, chunks: readonly NewChunk[]): Promise<IndexState> {
    const { documentId, tenantId, kbId } = owner;
    const kb = await this.lock(tx, kbId);
    await tx.query(DELETE_CHUNKS, [documentId, kbId, tenantId]);
    let referenceLength = kb.reference_length;
    if (referenceLength === 0 && chunks.length > 0) {
      referenceLength = await this.setReferenceLength(
        tx,
        kbId,
        kb.configuration,
        chunks.slice(0, BATCH_SIZE),
      );
    }
    for (let start = 0; start < chunks.length; start += BATCH_SIZE) {
      const batch = chunks.slice(start, start + BATCH_SIZE);
      await tx.query(INSERT_CHUNKS, [
        documentId,
        kbId,
        tenantId,
        kb.configuration,
        referenceLength,
        batch.map(() => uuidv7()),
        batch.map(chunk => chunk.ordinal),
        // PostgreSQL text cannot hold U+0000.
        batch.map(chunk => chunk.text.replaceAll('\0', ' ')),
        batch.map(chunk => chunk.heading?.replaceAll('\0', ' ') ?? null),
        batch.map(chunk => chunk.page),
        batch.map(chunk => chunk.startOffset),
        batch.map(chunk => chunk.endOffset),
        batch.map(chunk => chunk.tokenCount),
        batch.map(chunk => halfvecLiteral(chunk.embedding)),
      ]);
    }
    return this.reweighIfDrifted(tx, kbId);
  }

  /**
   * Deletes the document's chunks; the document's row stays. To be called before that row is deleted: a foreign
   * key's cascade would leave the kb's statistics behind.
   * @throws KnowledgeBaseGoneError
   */
  async deleteChunks(
    tx: Tx,
    { documentId, kbId }: Pick<ChunkOwner, 'documentId' | 'kbId'>,
  ): Promise<IndexState> {
    await this.lock(tx, kbId);
    await tx.query(DELETE_CHUNKS, [documentId, kbId, null]);
    return this.reweighIfDrifted(tx, kbId);
  }

  /** @param page from 1 */
  async listChunks(
    tx: Tx,
    documentId: string,
    page: number,
    pageSize: number,
  ): Promise<{ items: Chunk[]; total: number }> {
    const [{ total }] = await tx.query<[{ total: number }]>(
      'SELECT count(*)::integer AS total FROM chunks WHERE document_id = $1',
      [documentId],
    );
    const items = await tx.query<Chunk[]>(
      `SELECT id, document_id, ordinal, text, heading, page, start_offset, end_offset, token_count
       FROM chunks WHERE document_id = $1 ORDER BY ordinal LIMIT $2 OFFSET $3`,
      [documentId, pageSize, (page - 1) * pageSize],
    );
    return { items, total };
  }

  /**
   * Weighs every chunk of the kb anew with its true average length (about 0.2 ms a chunk).
   * @throws KnowledgeBaseGoneError
   */
  async reweigh(tx: Tx, kbId: string): Promise<void> {
    const kb = await this.lock(tx, kbId);
    if (kb.average_length === 0) {
      return;
    }
    await tx.query('UPDATE knowledge_bases SET reference_length = $2 WHERE id = $1', [
      kbId,
      kb.average_length,
    ]);
    const access = await this.setAccess(tx, 'all');
    await tx.query(
      `UPDATE chunk_vectors AS vector SET lexical = bm25.weights
       FROM chunks AS chunk, bm25_weights($2::regconfig, ${weighedText('chunk')}, $3::real) AS bm25
       WHERE vector.kb_id = $1 AND chunk.id = vector.chunk_id`,
      [kbId, kb.configuration, kb.average_length],
    );
    await this.setAccess(tx, access);
  }

  /**
   * All chunks are weighed alike: also those of documents that whoever deleted one may not read. Nothing of them leaves
   * the database.
   *
   * @returns what was set before
   */
  private async setAccess(tx: Tx, access: string): Promise<string> {
    const [{ before }] = await tx.query<[{ before: string | null }]>(
      `SELECT current_setting('app.access', true) AS before`,
    );
    await tx.query(`SELECT set_config('app.access', $1, true)`, [access]);
    return before ?? '';
  }

  /** Two documents of a kb are written one after the other; foreign keys to the kb do not wait for it. */
  private async lock(tx: Tx, kbId: string): Promise<KnowledgeBaseRow> {
    const [kb] = await tx.query<KnowledgeBaseRow[]>(
      `SELECT text_search_configuration::text AS configuration, reference_length, chunk_count,
              coalesce(lexeme_count::float8 / nullif(chunk_count, 0), 0) AS average_length
       FROM knowledge_bases WHERE id = $1 FOR NO KEY UPDATE`,
      [kbId],
    );
    if (!kb) {
      throw new KnowledgeBaseGoneError(`There is no knowledge base ${kbId}`);
    }
    return kb;
  }

  private async setReferenceLength(
    tx: Tx,
    kbId: string,
    configuration: string,
    sample: readonly NewChunk[],
  ): Promise<number> {
    const [{ average }] = await tx.query<[{ average: number }]>(
      `SELECT coalesce(avg(bm25.length), 0)::real AS average
       FROM unnest($1::text[], $2::text[]) AS sample (text, heading),
            bm25_weights($3::regconfig, ${weighedText('sample')}, 0) AS bm25`,
      [
        sample.map(chunk => chunk.text.replaceAll('\0', ' ')),
        sample.map(chunk => chunk.heading?.replaceAll('\0', ' ') ?? null),
        configuration,
      ],
    );
    await tx.query('UPDATE knowledge_bases SET reference_length = $2 WHERE id = $1', [kbId, average]);
    return average;
  }

  private async reweighIfDrifted(tx: Tx, kbId: string): Promise<IndexState> {
    const kb = await this.lock(tx, kbId);
    const drifted =
      kb.average_length > 0 &&
      Math.abs(kb.average_length - kb.reference_length) > LENGTH_DRIFT * kb.reference_length;
    if (!drifted || kb.chunk_count >= REWEIGH_INLINE_CHUNKS) {
      return { reweighNeeded: drifted };
    }
    await this.reweigh(tx, kbId);
    return { reweighNeeded: false };
  }
}
