import { Injectable } from '@nestjs/common';
import pg from 'pg';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern } from '../../foundation/http/pagination.js';
import {
  type AuditEntry,
  type ChainHead,
  EMPTY_CHAIN,
  type UnchainedEntry,
  canonicalParts,
} from './audit-entry.js';

/** The chain of the platform; a tenant's chain has the tenant's id. */
export const PLATFORM_CHAIN = '00000000-0000-0000-0000-000000000000';

/** Which entries of a chain; without any field all of them. */
export interface AuditFilter {
  from?: Date;
  /** Exclusive. */
  until?: Date;
  /** Exact, or a prefix that ends with `.*`. */
  action?: string;
  actorId?: string;
  actorType?: string;
  outcome?: string;
  resourceType?: string;
  resourceId?: string;
  search?: string;
}

export interface PageOfAudit {
  page: number;
  pageSize: number;
  /** Entries older than this sequence, instead of a page by its number. */
  before: number | null;
}

const COLUMNS = `
  sequence, tenant_id, to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS time,
  actor_type, actor_id, actor_name, action, resource_type, resource_id, details, outcome, ip, request_id,
  prev_hash, hash`;

interface EntryRow {
  /** A bigint, which the driver reads as text. */
  sequence: string;
  tenant_id: string | null;
  time: string;
  actor_type: string;
  actor_id: string | null;
  actor_name: string | null;
  action: string;
  resource_type: string;
  resource_id: string | null;
  details: Record<string, unknown>;
  outcome: AuditEntry['outcome'];
  ip: string | null;
  request_id: string | null;
  prev_hash: string;
  hash: string;
}

@Injectable()
export class AuditRepository {
  /** Appends to a chain, and holds the lock on its head from here to the end of the transaction. */
  appendStatement(chainId: string, entries: readonly UnchainedEntry[]): string {
    const prepared = entries.map(entry => ({ ...entry, parts: canonicalParts(entry) }));
    return `SELECT append_audit(${pg.escapeLiteral(chainId)}, ${pg.escapeLiteral(JSON.stringify(prepared))})`;
  }

  async head(tx: Tx, chainId: string): Promise<ChainHead> {
    return (await this.ends(tx, chainId)).head ?? EMPTY_CHAIN;
  }

  /** Where the chain says that it ends, null where it says nothing; and its highest sequence, at the same moment. */
  async ends(tx: Tx, chainId: string): Promise<{ head: ChainHead | null; highest: number }> {
    const rows: Array<{ sequence: string | null; hash: string | null; highest: string | null }> =
      await tx.query(
        `SELECT c.sequence, c.hash,
              (SELECT e.sequence FROM audit_entries e WHERE e.chain_id = $1 ORDER BY e.sequence DESC LIMIT 1) AS highest
       FROM (SELECT) AS one LEFT JOIN audit_chains c ON c.chain_id = $1`,
        [chainId],
      );
    const { sequence = null, hash = null, highest = null } = rows[0] ?? {};
    return {
      head: sequence === null || hash === null ? null : { sequence: Number(sequence), hash },
      highest: Number(highest ?? 0),
    };
  }

  /** The newest first. Without a filter a page is a range of sequences: the last one costs what the first does. */
  async list(tx: Tx, chainId: string, filter: AuditFilter, page: PageOfAudit): Promise<Page<AuditEntry>> {
    const head = await this.head(tx, chainId);
    return Object.values(filter).every(value => value === undefined)
      ? this.listAll(tx, chainId, head, page)
      : this.listFiltered(tx, chainId, head, filter, page);
  }

  /** In the order of the chain: entries after `after` up to `upTo`, at most `limit`. */
  async batch(
    tx: Tx,
    chainId: string,
    { after, upTo, limit, filter = {} }: { after: number; upTo: number; limit: number; filter?: AuditFilter },
  ): Promise<AuditEntry[]> {
    const { where, parameters } = conditions(chainId, upTo, filter);
    const rows: EntryRow[] = await tx.query(
      `SELECT ${COLUMNS} FROM audit_entries WHERE ${where} AND sequence > $${parameters.length + 1}
       ORDER BY sequence LIMIT $${parameters.length + 2}`,
      [...parameters, after, limit],
    );
    return rows.map(toEntry);
  }

  private async listAll(
    tx: Tx,
    chainId: string,
    head: ChainHead,
    { page, pageSize, before }: PageOfAudit,
  ): Promise<Page<AuditEntry>> {
    const newest =
      before === null ? head.sequence - (page - 1) * pageSize : Math.min(before - 1, head.sequence);
    const rows: EntryRow[] = await tx.query(
      `SELECT ${COLUMNS} FROM audit_entries WHERE chain_id = $1 AND sequence <= $2 AND sequence > $3
       ORDER BY sequence DESC`,
      [chainId, newest, newest - pageSize],
    );
    return { items: rows.map(toEntry), total: head.sequence };
  }

  private async listFiltered(
    tx: Tx,
    chainId: string,
    head: ChainHead,
    filter: AuditFilter,
    { page, pageSize, before }: PageOfAudit,
  ): Promise<Page<AuditEntry>> {
    // What is appended meanwhile belongs to neither the count nor the page.
    const { where, parameters } = conditions(chainId, head.sequence, filter);
    const [{ total }] = await tx.query(
      `SELECT count(*)::int AS total FROM audit_entries WHERE ${where}`,
      parameters,
    );
    const add = (value: unknown) => `$${parameters.push(value)}`;
    if (before !== null) {
      const rows: EntryRow[] = await tx.query(
        `SELECT ${COLUMNS} FROM audit_entries WHERE ${where} AND sequence < ${add(before)}
         ORDER BY sequence DESC LIMIT ${add(pageSize)}`,
        parameters,
      );
      return { items: rows.map(toEntry), total };
    }
    const skipped = (page - 1) * pageSize;
    const size = Math.max(0, Math.min(pageSize, total - skipped));
    if (size === 0) return { items: [], total };
    // What is nearer to the old end is counted from there.
    const fromOldest = skipped > total / 2;
    const offset = fromOldest ? total - skipped - size : skipped;
    const rows: EntryRow[] = await tx.query(
      `SELECT ${COLUMNS} FROM audit_entries WHERE ${where}
       ORDER BY sequence ${fromOldest ? 'ASC' : 'DESC'} LIMIT ${add(size)} OFFSET ${add(offset)}`,
      parameters,
    );
    const items = rows.map(toEntry);
    return { items: fromOldest ? items.toReversed() : items, total };
  }
}

function conditions(
  chainId: string,
  upTo: number,
  filter: AuditFilter,
): { where: string; parameters: unknown[] } {
  const parameters: unknown[] = [chainId, upTo];
  const found = ['chain_id = $1', 'sequence <= $2'];
  const add = (value: unknown, condition: (parameter: string) => string) => {
    if (value !== undefined) found.push(condition(`$${parameters.push(value)}`));
  };
  const prefix = filter.action?.endsWith('.*') ? filter.action.slice(0, -1) : undefined;
  add(filter.from, value => `occurred_at >= ${value}`);
  add(filter.until, value => `occurred_at < ${value}`);
  add(prefix, value => `action >= ${value}`);
  // The character after the dot: what lies between the two begins with the prefix.
  add(prefix && `${prefix.slice(0, -1)}/`, value => `action < ${value}`);
  add(prefix === undefined ? filter.action : undefined, value => `action = ${value}`);
  add(filter.actorId, value => `actor_id = ${value}`);
  add(filter.actorType, value => `actor_type = ${value}`);
  if (filter.outcome === 'denied') found.push(`outcome = 'denied'`);
  else add(filter.outcome, value => `outcome = ${value}`);
  add(filter.resourceType, value => `resource_type = ${value}`);
  add(filter.resourceId, value => `resource_id = ${value}`);
  add(
    filter.search === undefined ? undefined : likePattern(filter.search),
    value => `(action ILIKE ${value} OR actor_name ILIKE ${value} OR resource_id ILIKE ${value})`,
  );
  return { where: found.join(' AND '), parameters };
}

function toEntry(row: EntryRow): AuditEntry {
  return {
    sequence: Number(row.sequence),
    tenant_id: row.tenant_id,
    time: row.time,
    actor: { type: row.actor_type, id: row.actor_id, name: row.actor_name },
    action: row.action,
    resource: { type: row.resource_type, id: row.resource_id },
    details: row.details,
    outcome: row.outcome,
    ip: row.ip,
    request_id: row.request_id,
    prev_hash: row.prev_hash,
    hash: row.hash,
  };
}
