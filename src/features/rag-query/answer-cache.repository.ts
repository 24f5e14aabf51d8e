import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import type { Citation } from './rag-query.dto.js';

/** Of an answer, what is the same for whoever asks the same again. */
export interface KeptAnswer {
  answered: boolean;
  answer: string;
  citations: Citation[];
  passages: Passage[];
  model: string;
  removedCitations: number;
}

/** What an answer was made from, and of what it is one. */
export interface NewAnswer {
  key: Buffer;
  kbIds: readonly string[];
  /** In the order of `kbIds`, as they were before the search. */
  contentVersions: readonly string[];
  /** Each once. */
  documentIds: readonly string[];
  answer: KeptAnswer;
  /** Until it is too old. */
  seconds: number;
}

/** Minutes of which it is not written down that an answer was used. */
const USED_EVERY = 10;

/** Answers of the transaction's tenant, and of them those whose knowledge bases and documents the principal sees. */
@Injectable()
export class AnswerCacheRepository {
  async find(tx: Tx, key: Buffer): Promise<KeptAnswer | null> {
    const rows: Array<{ answer: KeptAnswer; stale: boolean }> = await tx.query(
      `SELECT answer, used_at < now() - make_interval(mins => $2) AS stale
       FROM answer_cache WHERE key = $1 AND expires_at > now()`,
      [key, USED_EVERY],
    );
    const [found] = rows;
    if (found?.stale) await tx.query('UPDATE answer_cache SET used_at = now() WHERE key = $1', [key]);
    return found?.answer ?? null;
  }

  /** Of two equal ones the first stays, until it is too old. */
  async insert(tx: Tx, tenantId: string, entry: NewAnswer): Promise<void> {
    await tx.query(
      `INSERT INTO answer_cache AS known (tenant_id, key, kb_ids, content_versions, document_ids, answer, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
       ON CONFLICT (tenant_id, key) DO UPDATE SET
         document_ids = excluded.document_ids, answer = excluded.answer, created_at = now(), used_at = now(),
         expires_at = excluded.expires_at
       WHERE known.expires_at <= now()`,
      [
        tenantId,
        entry.key,
        entry.kbIds,
        entry.contentVersions,
        entry.documentIds,
        JSON.stringify(entry.answer),
        entry.seconds,
      ],
    );
  }

  /** Those of all tenants that are too old, or of contents that have changed since; in a transaction of the platform. */
  async deleteUnreachable(tx: Tx, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM answer_cache WHERE (tenant_id, key) IN (
         SELECT tenant_id, key FROM answer_cache AS kept
         WHERE expires_at <= now() OR EXISTS (
           SELECT FROM unnest(kept.kb_ids, kept.content_versions) AS asked (id, version)
           LEFT JOIN knowledge_bases AS kb ON kb.id = asked.id
           WHERE kb.content_version IS DISTINCT FROM asked.version)
         LIMIT $1)`,
      [limit],
    );
    return count;
  }

  /** Of each tenant those that were not used for the longest time, where there are more than `most`. */
  async deleteSurplus(tx: Tx, most: number, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM answer_cache WHERE (tenant_id, key) IN (
         SELECT tenant_id, key FROM (
           SELECT tenant_id, key, row_number() OVER (PARTITION BY tenant_id ORDER BY used_at DESC, key) AS place
           FROM answer_cache) AS ranked
         WHERE place > $1 LIMIT $2)`,
      [most, limit],
    );
    return count;
  }
}
