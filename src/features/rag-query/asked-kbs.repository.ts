import { Injectable } from '@nestjs/common';
import { validate as isUuid } from 'uuid';
import type { ConfigOverrides } from '../../core/tenancy/tenant-config.js';
import type { Tx } from '../../foundation/database/transaction.js';

/** A knowledge base that is asked, as it is at this moment. */
export interface AskedKb {
  id: string;
  /** What it sets itself. */
  config: ConfigOverrides;
  /** Another after every change of what searches find in it. */
  contentVersion: string;
  /** Whether it holds documents that who asks may not read. */
  partlyHidden: boolean;
}

const COLUMNS = `id, config, content_version AS "contentVersion",
  restricted_count > 0 AND current_setting('app.access', true) IS DISTINCT FROM 'all' AS "partlyHidden"`;

/** Knowledge bases of the transaction's tenant that the principal sees. */
@Injectable()
export class AskedKbsRepository {
  /** @param references ids or slugs. @returns each once, in the order of the references; null where one is not there */
  async find(tx: Tx, references: readonly string[]): Promise<AskedKb[] | null> {
    const rows: Array<AskedKb & { slug: string }> = await tx.query(
      `SELECT ${COLUMNS}, slug FROM knowledge_bases WHERE id = ANY ($1::uuid[]) OR slug = ANY ($2::text[])`,
      [references.filter(isUuid), references.filter(reference => !isUuid(reference))],
    );
    const found = new Set<AskedKb>();
    for (const reference of references) {
      const id = reference.toLowerCase();
      const row = rows.find(kb => (isUuid(reference) ? kb.id === id : kb.slug === reference));
      if (!row) return null;
      found.add(row);
    }
    return [...found];
  }

  /** Ids of those that are active, the oldest first. */
  async active(tx: Tx): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      'SELECT id FROM knowledge_bases WHERE is_active ORDER BY created_at, id',
    );
    return rows.map(({ id }) => id);
  }
}
