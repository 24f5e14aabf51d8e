import { Injectable } from '@nestjs/common';
import { letTakeItsTime } from '../../foundation/database/statement-timeout.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { ChunkOwner } from './staging.repository.js';

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

/** `reweighNeeded`: call {@link ChunksRepository.reweigh} in a transaction of its own, once this one has committed. */
export interface IndexState {
  reweighNeeded: boolean;
}

/** The kb does not exist, or not for this tenant. */
export class KnowledgeBaseGoneError extends Error {
  override readonly name = 'KnowledgeBaseGoneError';
}

/** Chunks that one statement swaps in. */
const BATCH_SIZE = 1_000;
/** Chunks of which the first average length of a kb is taken. */
const SAMPLE_SIZE = 256;

/** Something is to be swapped in that is not all there. */
export class IncompleteStagingError extends Error {
  override readonly name = 'IncompleteStagingError';
}

/** Up to here a reweighing takes about a second and happens in the transaction that made it necessary. */
const REWEIGH_INLINE_CHUNKS = 5_000;

/** How far, as a share, the average length may move from the one that the stored weights were computed with. */
const LENGTH_DRIFT = 0.1;

/** What the lexical vector of a chunk is made of. */
const weighedText = (chunk: string) => `concat_ws(E'\\n', ${chunk}.heading, ${chunk}.text)`;

/** Adds `sign` × the terms of the rows in `source` to the kb's document frequencies, with no row left at zero. */
const mergeTerms = (source: string, sign: '+' | '-', kb: string, tenant: string, condition = 'true') => `
  MERGE INTO kb_terms AS known
  USING (SELECT term, ${sign}count(*)::integer AS change
         FROM ${source}, sparsevec_indices(lexical) AS term WHERE ${condition} GROUP BY term) AS changed
  ON known.kb_id = ${kb} AND known.term = changed.term
  WHEN MATCHED AND known.document_frequency + changed.change <= 0 THEN DELETE
  WHEN MATCHED THEN UPDATE SET document_frequency = known.document_frequency + changed.change
  WHEN NOT MATCHED AND changed.change > 0 THEN
    INSERT (tenant_id, kb_id, term, document_frequency) VALUES (${tenant}, ${kb}, changed.term, changed.change)`;

const DELETE_CHUNKS = `
  WITH vectors AS (
    DELETE FROM chunk_vectors WHERE document_id = ANY ($1::uuid[]) AND kb_id = $2 RETURNING length, lexical
  ), texts AS (
    DELETE FROM chunks WHERE document_id = ANY ($1::uuid[]) AND kb_id = $2
  ), counted AS (
    UPDATE knowledge_bases AS kb
    SET chunk_count = kb.chunk_count - removed.chunks, lexeme_count = kb.lexeme_count - removed.lexemes
    FROM (SELECT count(*)::integer AS chunks, coalesce(sum(length), 0) AS lexemes FROM vectors) AS removed
    WHERE kb.id = $2
  )
  ${mergeTerms('vectors', '-', '$2', '$3::uuid')}`;

/** Without the kb's statistics. @returns how many chunks and lexemes these are */
const INSERT_STAGED = `
  WITH input AS MATERIALIZED (
    SELECT c.id, c.ordinal, c.text, c.heading, c.page, c.start_offset, c.end_offset, c.token_count, v.embedding
    FROM staged_chunks c JOIN staged_vectors v USING (document_id, ordinal)
    WHERE document_id = $1 AND c.ordinal >= $6 AND c.ordinal < $7 AND v.ordinal >= $6 AND v.ordinal < $7
  ), texts AS (
    INSERT INTO chunks (id, tenant_id, kb_id, document_id, ordinal, text, heading, page,
                        start_offset, end_offset, token_count)
    SELECT id, $3, $2, $1, ordinal, text, heading, page, start_offset, end_offset, token_count FROM input
  ), vectors AS (
    INSERT INTO chunk_vectors (chunk_id, tenant_id, kb_id, document_id, length, embedding, lexical, number)
    SELECT input.id, $3, $2, $1, bm25.length, input.embedding, bm25.weights, $8::integer + input.ordinal
    FROM input, bm25_weights($4::regconfig, ${weighedText('input')}, $5::real) AS bm25
    RETURNING length
  )
  SELECT count(*)::integer AS chunks, coalesce(sum(length), 0)::float8 AS lexemes FROM vectors`;

interface KnowledgeBaseRow {
  configuration: string;
  reference_length: number;
  chunk_count: number;
  average_length: number;
  last_chunk_number: number;
  keeps_graph: boolean;
}

const KB_COLUMNS = `text_search_configuration::text AS configuration, reference_length, chunk_count, last_chunk_number,
  entity_count > 0 AS keeps_graph,
  coalesce(lexeme_count::float8 / nullif(chunk_count, 0), 0) AS average_length`;

/**
 * Chunks with their vectors, and the kb's statistics that BM25 needs. All of it changes in the caller's transaction
 * under a lock on the kb, so `kb_terms`, `chunk_count` and `lexeme_count` are always those of the stored chunks.
 */
@Injectable()
export class ChunksRepository {
  /**
   * Swaps the document's chunks for those that are staged, all of which have vectors. What is staged stays.
   *
   * @param hasChunks whether there are any to be swapped out
   * @throws KnowledgeBaseGoneError, IncompleteStagingError
   */
  async swapIn(
    tx: Tx,
    owner: ChunkOwner,
    chunkCount: number,
    { hasChunks = true, signal }: { hasChunks?: boolean; signal?: AbortSignal } = {},
  ): Promise<IndexState> {
    const { documentId, tenantId, kbId } = owner;
    const kb = await this.lock(tx, kbId);
    if (hasChunks) await this.deleteOf(tx, [documentId], kbId, tenantId, kb);
    const added = await this.insertStaged(tx, owner, chunkCount, kb, signal);
    await tx.query(mergeTerms('chunk_vectors', '+', '$2::uuid', '$3::uuid', 'document_id = $1'), [
      documentId,
      kbId,
      tenantId,
    ]);
    return this.count(tx, kbId, added);
  }

  /**
   * Swaps all chunks of the kb at once for those that are staged, of these documents; the others are left with none.
   *
   * @throws KnowledgeBaseGoneError, IncompleteStagingError
   */
  async swapAll(
    tx: Tx,
    { tenantId, kbId }: Pick<ChunkOwner, 'tenantId' | 'kbId'>,
    documents: ReadonlyArray<{ id: string; chunkCount: number }>,
    signal?: AbortSignal,
  ): Promise<IndexState> {
    await letTakeItsTime(tx);
    const kb = await this.lock(tx, kbId);
    for (const table of ['chunk_vectors', 'chunks', 'kb_terms']) {
      signal?.throwIfAborted();
      await tx.query(`DELETE FROM ${table} WHERE kb_id = $1`, [kbId]);
    }
    await tx.query(
      'UPDATE knowledge_bases SET chunk_count = 0, lexeme_count = 0, reference_length = 0 WHERE id = $1',
      [kbId],
    );
    kb.reference_length = 0;
    const total = { chunks: 0, lexemes: 0 };
    for (const { id: documentId, chunkCount } of documents) {
      const added = await this.insertStaged(tx, { documentId, tenantId, kbId }, chunkCount, kb, signal);
      total.chunks += added.chunks;
      total.lexemes += added.lexemes;
    }
    await tx.query(mergeTerms('chunk_vectors', '+', '$1::uuid', '$2::uuid', 'kb_id = $1'), [kbId, tenantId]);
    await this.forgetIndexes(tx, kbId);
    return this.count(tx, kbId, total);
  }

  /**
   * Deletes the documents' chunks; the documents' rows stay. To be called before those are deleted: a foreign key's
   * cascade would leave the kb's statistics behind.
   * @throws KnowledgeBaseGoneError
   */
  async deleteChunks(
    tx: Tx,
    { documentIds, kbId }: { documentIds: readonly string[]; kbId: string },
  ): Promise<IndexState> {
    await this.deleteOf(tx, documentIds, kbId, null, await this.lock(tx, kbId));
    return this.reweighIfDrifted(tx, await this.lock(tx, kbId), kbId);
  }

  /** What only they mention leaves the graph with them, one by one. */
  private async deleteOf(
    tx: Tx,
    documentIds: readonly string[],
    kbId: string,
    tenantId: string | null,
    kb: KnowledgeBaseRow,
  ): Promise<void> {
    if (kb.keeps_graph) await letTakeItsTime(tx);
    await tx.query(DELETE_CHUNKS, [documentIds, kbId, tenantId]);
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
    await letTakeItsTime(tx);
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
   * Makes the keyword index of the kb anew in its language (about 0.3 ms a chunk); what was searchable stays so until the
   * transaction commits.
   *
   * @returns whether it was in another one; `reweighNeeded` of a small kb too
   * @throws KnowledgeBaseGoneError
   */
  async reindexKeywords(tx: Tx, kbId: string): Promise<IndexState & { changed: boolean }> {
    await this.lock(tx, kbId);
    const [changed]: [Array<{ tenant_id: string; configuration: string; reference_length: number }>] =
      await tx.query(
        `UPDATE knowledge_bases SET text_search_configuration = language::regconfig, updated_at = now()
         WHERE id = $1 AND text_search_configuration <> language::regconfig
         RETURNING tenant_id, text_search_configuration::text AS configuration, reference_length`,
        [kbId],
      );
    const [kb] = changed;
    if (!kb) return { changed: false, reweighNeeded: false };
    await letTakeItsTime(tx);
    const access = await this.setAccess(tx, 'all');
    await tx.query(
      `UPDATE chunk_vectors AS vector SET lexical = bm25.weights, length = bm25.length
       FROM chunks AS chunk, bm25_weights($2::regconfig, ${weighedText('chunk')}, $3::real) AS bm25
       WHERE vector.kb_id = $1 AND chunk.id = vector.chunk_id`,
      [kbId, kb.configuration, kb.reference_length],
    );
    await tx.query('DELETE FROM kb_terms WHERE kb_id = $1', [kbId]);
    await tx.query(mergeTerms('chunk_vectors', '+', '$1::uuid', '$2::uuid', 'kb_id = $1'), [
      kbId,
      kb.tenant_id,
    ]);
    await tx.query(
      `UPDATE knowledge_bases SET lexeme_count =
         (SELECT coalesce(sum(length), 0) FROM chunk_vectors WHERE kb_id = $1) WHERE id = $1`,
      [kbId],
    );
    await this.forgetIndexes(tx, kbId);
    await this.setAccess(tx, access);
    // Not here: a row that is updated twice in a transaction has its foreign key checked, and waits for whoever has the
    // document and waits for the knowledge base.
    return { changed: true, reweighNeeded: isDrifted(await this.lock(tx, kbId)) };
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
    await tx.query(`SELECT set_local('app.access', $1)`, [access]);
    return before ?? '';
  }

  /** Indexes of a large kb know the chunks as they were: searches read all of them until there is a new one. */
  private async forgetIndexes(tx: Tx, kbId: string): Promise<void> {
    await tx.query('UPDATE large_indexes SET stale = true WHERE kb_id = $1', [kbId]);
    await tx.query('UPDATE knowledge_bases SET large_generation = NULL WHERE id = $1', [kbId]);
  }

  /** Two documents of a kb are written one after the other; foreign keys to the kb do not wait for it. */
  private async lock(tx: Tx, kbId: string): Promise<KnowledgeBaseRow> {
    const [kb] = await tx.query<KnowledgeBaseRow[]>(
      `SELECT ${KB_COLUMNS} FROM knowledge_bases WHERE id = $1 FOR NO KEY UPDATE`,
      [kbId],
    );
    if (!kb) {
      throw new KnowledgeBaseGoneError(`There is no knowledge base ${kbId}`);
    }
    return kb;
  }

  /** Batch by batch, for the memory of an embedded database. */
  private async insertStaged(
    tx: Tx,
    owner: ChunkOwner,
    chunkCount: number,
    kb: KnowledgeBaseRow,
    signal: AbortSignal | undefined,
  ): Promise<{ chunks: number; lexemes: number }> {
    const { documentId, tenantId, kbId } = owner;
    if (kb.reference_length === 0) kb.reference_length = await this.setReferenceLength(tx, owner, kb);
    const total = { chunks: 0, lexemes: 0 };
    for (let start = 0; start < chunkCount; start += BATCH_SIZE) {
      signal?.throwIfAborted();
      const [added] = await tx.query<[{ chunks: number; lexemes: number }]>(INSERT_STAGED, [
        documentId,
        kbId,
        tenantId,
        kb.configuration,
        kb.reference_length,
        start,
        start + BATCH_SIZE,
        kb.last_chunk_number + 1,
      ]);
      total.chunks += added.chunks;
      total.lexemes += added.lexemes;
    }
    if (total.chunks !== chunkCount)
      throw new IncompleteStagingError(`${total.chunks} of ${chunkCount} chunks are staged with a vector.`);
    kb.last_chunk_number += chunkCount;
    return total;
  }

  private async setReferenceLength(tx: Tx, owner: ChunkOwner, kb: KnowledgeBaseRow): Promise<number> {
    const [{ average }] = await tx.query<[{ average: number }]>(
      `WITH sampled AS (
         SELECT coalesce(avg(bm25.length), 0)::real AS average
         FROM (SELECT text, heading FROM staged_chunks WHERE document_id = $1 AND ordinal < $4) AS sample,
              bm25_weights($3::regconfig, ${weighedText('sample')}, 0) AS bm25
       ), noted AS (
         UPDATE knowledge_bases SET reference_length = average FROM sampled WHERE id = $2
       )
       SELECT average FROM sampled`,
      [owner.documentId, owner.kbId, kb.configuration, SAMPLE_SIZE],
    );
    return average;
  }

  private async count(
    tx: Tx,
    kbId: string,
    { chunks, lexemes }: { chunks: number; lexemes: number },
  ): Promise<IndexState> {
    const [[kb]]: [KnowledgeBaseRow[]] = await tx.query(
      `UPDATE knowledge_bases
       SET chunk_count = chunk_count + $2, lexeme_count = lexeme_count + $3, last_chunk_number = last_chunk_number + $2
       WHERE id = $1 RETURNING ${KB_COLUMNS}`,
      [kbId, chunks, lexemes],
    );
    return this.reweighIfDrifted(tx, kb as KnowledgeBaseRow, kbId);
  }

  private async reweighIfDrifted(tx: Tx, kb: KnowledgeBaseRow, kbId: string): Promise<IndexState> {
    const drifted = isDrifted(kb);
    if (!drifted || kb.chunk_count >= REWEIGH_INLINE_CHUNKS) return { reweighNeeded: drifted };
    await this.reweigh(tx, kbId);
    return { reweighNeeded: false };
  }
}

const isDrifted = ({ average_length: average, reference_length: reference }: KnowledgeBaseRow): boolean =>
  average > 0 && Math.abs(average - reference) > LENGTH_DRIFT * reference;
