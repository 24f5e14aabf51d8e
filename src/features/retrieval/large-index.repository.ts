import { Injectable } from '@nestjs/common';
import { letTakeItsTime } from '../../foundation/database/statement-timeout.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { LargeIndex, LargeIndexState, LargeIndexStep } from './large-index-steps.js';

/** A knowledge base that has an index, or should have one. */
export interface IndexedKnowledgeBase extends LargeIndexState {
  kbId: string;
  tenant: { id: string; name: string };
}

/** pgvector's HNSW index takes no halfvec with more. */
const MOST_DIMENSIONS = 4_000;

/**
 * Of `large_postings`. Where many texts are about as long, so are the weights of a term in them: eighths did not tell those
 * apart that are read before the budget ends from those that are not (recall@10 0.958 to 0.966 of 50,000 chunks).
 */
const WEIGHT_CLASS = 'greatest(1, round(weight * 32))::smallint';
const BLOCK = 'number >> 14';

const INDEXES = `coalesce((
  SELECT json_agg(json_build_object(
           'generation', generation, 'dimensions', dimensions, 'vectorsUpTo', vectors_up_to, 'termsUpTo', terms_up_to,
           'vectorCount', vector_count, 'chunkCount', chunk_count, 'indexed', indexed, 'stale', stale) ORDER BY generation DESC)
  FROM large_indexes WHERE kb_id = kb.id), '[]') AS indexes`;

const STATE = `kb.chunk_count AS "chunkCount", kb.last_chunk_number AS "lastChunkNumber",
  kb.large_generation AS "servedGeneration", ${INDEXES}`;

/** The table that triggers make and drop with the index's row; named as there. Both parts are checked. */
function vectorsTable(kbId: string, { generation }: Pick<LargeIndex, 'generation'>): string {
  const hex = kbId.replaceAll('-', '').toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(hex) || !Number.isInteger(generation)) throw new Error('This names no index.');
  return `large_vectors_${hex}_${generation}`;
}

/**
 * The indexes of large knowledge bases, built step by step in short transactions: one that is cut off has done nothing,
 * and the next begins where the last one ended. Each step locks the index's row, so that two never do the same.
 *
 * All of it in transactions of the tenant as the system, under row-level security, but for {@link list}.
 */
@Injectable()
export class LargeIndexRepository {
  /** Those of all tenants that have as many chunks, or an index. In a transaction of the platform. */
  async list(tx: Tx, from: number): Promise<IndexedKnowledgeBase[]> {
    return tx.query(
      `SELECT kb.id AS "kbId", json_build_object('id', tenant.id, 'name', tenant.name) AS tenant, ${STATE}
       FROM knowledge_bases AS kb JOIN tenants AS tenant ON tenant.id = kb.tenant_id
       WHERE tenant.status <> 'erasing'
         AND (kb.chunk_count >= $1 OR kb.id IN (SELECT kb_id FROM large_indexes))
       ORDER BY kb.id`,
      [from],
    );
  }

  /**
   * Locks the indexes of a kb, and tells what there is of it; null where it is gone.
   *
   * @param withKb first the kb's own row, as whoever makes its indexes stale or deletes it: for what changes which there are
   */
  async lock(tx: Tx, kbId: string, withKb: boolean): Promise<LargeIndexState | null> {
    if (withKb) await tx.query('SELECT FROM knowledge_bases WHERE id = $1 FOR NO KEY UPDATE', [kbId]);
    await tx.query('SELECT FROM large_indexes WHERE kb_id = $1 ORDER BY generation FOR UPDATE', [kbId]);
    return this.find(tx, kbId);
  }

  /** What there is of it, without a lock. */
  async find(tx: Tx, kbId: string): Promise<LargeIndexState | null> {
    const [state] = await tx.query<LargeIndexState[]>(
      `SELECT ${STATE} FROM knowledge_bases AS kb WHERE id = $1`,
      [kbId],
    );
    return state ?? null;
  }

  /**
   * Takes a step that was decided in the same transaction.
   *
   * @param atOnce chunks that are added by one step at most
   * @returns false where it could not be done
   */
  async take(
    tx: Tx,
    kbId: string,
    { indexes, lastChunkNumber: last }: LargeIndexState,
    step: LargeIndexStep,
    atOnce: { addVectors: number; addTerms: number },
  ): Promise<boolean> {
    if (step.do === 'make') return this.make(tx, kbId, indexes.length);
    if (step.do === 'drop') await this.drop(tx, kbId, step.generations);
    else if (step.do === 'serve') await this.serve(tx, kbId, step.index);
    else if (step.do === 'index') await this.index(tx, kbId, step.index);
    else if (step.do === 'addVectors') await this.addVectors(tx, kbId, step.index, last, atOnce.addVectors);
    else if (step.do === 'addTerms') await this.addTerms(tx, kbId, step.index, last, atOnce.addTerms);
    else await this.removeVectors(tx, kbId, step.index);
    return true;
  }

  /**
   * Adds an index with nothing in it, and with it its table.
   *
   * @param known how many indexes there were when this was decided
   * @returns false where there are others by now, or the vectors have more dimensions than an index takes
   */
  private async make(tx: Tx, kbId: string, known: number): Promise<boolean> {
    const made: unknown[] = await tx.query(
      `INSERT INTO large_indexes (kb_id, tenant_id, dimensions)
       SELECT kb_id, tenant_id, dimensions
       FROM (SELECT kb_id, tenant_id, vector_dims(embedding) AS dimensions FROM chunk_vectors
             WHERE kb_id = $1 ORDER BY number DESC LIMIT 1) AS newest
       WHERE dimensions <= ${MOST_DIMENSIONS} AND (SELECT count(*) FROM large_indexes WHERE kb_id = $1) = $2
       RETURNING generation`,
      [kbId, known],
    );
    return made.length > 0;
  }

  /** The tables of vectors go with their rows; searches under way find none there, and read all chunks. */
  private async drop(tx: Tx, kbId: string, generations: readonly number[]): Promise<void> {
    await tx.query(
      'UPDATE knowledge_bases SET large_generation = NULL WHERE id = $1 AND large_generation = ANY ($2::integer[])',
      [kbId, generations],
    );
    await tx.query('DELETE FROM large_indexes WHERE kb_id = $1 AND generation = ANY ($2::integer[])', [
      kbId,
      generations,
    ]);
  }

  /** Has a trigger build the index of the vectors: seconds, or minutes, in which nobody else waits for it. */
  private async index(tx: Tx, kbId: string, { generation }: LargeIndex): Promise<void> {
    await letTakeItsTime(tx);
    await tx.query('UPDATE large_indexes SET indexed = true WHERE kb_id = $1 AND generation = $2', [
      kbId,
      generation,
    ]);
  }

  /** From here on searches use it. */
  private async serve(tx: Tx, kbId: string, { generation }: LargeIndex): Promise<void> {
    await tx.query('UPDATE knowledge_bases SET large_generation = $2 WHERE id = $1', [kbId, generation]);
  }

  /**
   * Adds the vectors of the next chunks. Those of other dimensions have no place in it, as they have no cosine.
   *
   * @param last every chunk up to this number has been committed
   * @param most chunks
   */
  private async addVectors(
    tx: Tx,
    kbId: string,
    index: LargeIndex,
    last: number,
    most: number,
  ): Promise<void> {
    await tx.query(
      `WITH next AS MATERIALIZED (
         SELECT number, tenant_id, kb_id, embedding FROM chunk_vectors
         WHERE kb_id = $1 AND number > $3 AND number <= $4 ORDER BY number LIMIT $5
       ), added AS (
         INSERT INTO ${vectorsTable(kbId, index)} (number, tenant_id, kb_id, embedding)
         SELECT number, tenant_id, kb_id, embedding FROM next WHERE vector_dims(embedding) = $6 RETURNING number
       )
       UPDATE large_indexes
       SET vector_count = vector_count + (SELECT count(*) FROM added),
           vectors_up_to = (SELECT CASE WHEN count(*) < $5 THEN $4::integer ELSE max(number) END FROM next)
       WHERE kb_id = $1 AND generation = $2`,
      [kbId, index.generation, index.vectorsUpTo, last, most, index.dimensions],
    );
  }

  /** Adds the terms of the chunks of the next numbers. @param last as above @param most numbers */
  private async addTerms(tx: Tx, kbId: string, index: LargeIndex, last: number, most: number): Promise<void> {
    const upTo = Math.min(last, index.termsUpTo + most);
    await tx.query(
      `WITH next AS MATERIALIZED (
         SELECT tenant_id, number, lexical::text AS elements FROM chunk_vectors WHERE kb_id = $1 AND number > $3 AND number <= $4
       ), posted AS (
         INSERT INTO large_postings AS known (kb_id, tenant_id, generation, term, weight, block, size, numbers)
         SELECT $1, tenant_id, $2, term, ${WEIGHT_CLASS}, ${BLOCK}, count(*), array_agg(number)
         FROM (SELECT tenant_id, number, split_part(element, ':', 1)::integer AS term, split_part(element, ':', 2)::real AS weight
               FROM next, string_to_table(split_part(ltrim(elements, '{'), '}', 1), ',') AS element) AS weighted
         GROUP BY tenant_id, term, ${WEIGHT_CLASS}, ${BLOCK}
         ON CONFLICT (kb_id, generation, term, weight, block)
           DO UPDATE SET size = known.size + excluded.size, numbers = known.numbers || excluded.numbers
       )
       UPDATE large_indexes SET chunk_count = chunk_count + (SELECT count(*) FROM next), terms_up_to = $4
       WHERE kb_id = $1 AND generation = $2`,
      [kbId, index.generation, index.termsUpTo, upTo],
    );
  }

  /** Removes the vectors of chunks that are gone. */
  private async removeVectors(tx: Tx, kbId: string, index: LargeIndex): Promise<void> {
    const table = vectorsTable(kbId, index);
    await tx.query(
      `DELETE FROM ${table} AS known
       WHERE NOT EXISTS (SELECT FROM chunk_vectors WHERE kb_id = $1 AND number = known.number)`,
      [kbId],
    );
    await tx.query(
      `UPDATE large_indexes SET vector_count = (SELECT count(*) FROM ${table}) WHERE kb_id = $1 AND generation = $2`,
      [kbId, index.generation],
    );
  }
}
