import { Injectable } from '@nestjs/common';
import { AsyncLocalStorage } from 'node:async_hooks';
import { Readable } from 'node:stream';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { type AuditEntry, type ChainHead, EMPTY_CHAIN } from './audit-entry.js';
import { type AuditFilter, AuditRepository, PLATFORM_CHAIN, type PageOfAudit } from './audit.repository.js';
import { type ExportFormat, exportedEntries, exportEnd } from './audit-export.js';
import { AuditService } from './audit.service.js';
import { type ChainReport, ChainVerifier } from './chain-verifier.js';

/** The chain of the context's tenant, or the one of the platform. */
export type ChainOf = 'tenant' | 'platform';

/** What of a chain is exported: all of it, a range, or what a filter leaves. */
export interface ExportSelection {
  format: ExportFormat;
  startSequence?: number;
  endSequence?: number;
  filter: AuditFilter;
  /** The fields of the filter, as they were asked for. */
  filters: Record<string, string>;
}

/** Entries that are read, checked or written out at once: other requests have their turn in between. */
const BATCH = 500;

/** Reads chains: a page, all of one to verify it, or all of one to hand out. */
@Injectable()
export class AuditLogService {
  constructor(
    private readonly context: TenantContext,
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly repository: AuditRepository,
    private readonly audit: AuditService,
  ) {}

  /** The newest first, with the sequence to go on from. */
  async list(
    chain: ChainOf,
    filter: AuditFilter,
    page: PageOfAudit,
  ): Promise<{ items: AuditEntry[]; total: number; next: number | null }> {
    const { items, total } = await this.run(chain, tx =>
      this.repository.list(tx, this.idOf(chain), filter, page),
    );
    const last = items.at(-1);
    const more = page.before === null ? page.page * page.pageSize < total : items.length === page.pageSize;
    return { items, total, next: last && more && last.sequence > 1 ? last.sequence : null };
  }

  /** Walks the whole chain, in many short transactions. */
  async verify(chain: ChainOf, signal: AbortSignal): Promise<{ report: ChainReport; head: ChainHead }> {
    const chainId = this.idOf(chain);
    const { head, highest } = await this.run(chain, tx => this.repository.ends(tx, chainId));
    const verifier = new ChainVerifier();
    // What was appended since is not looked at; what already stood behind the end is.
    for (let after = 0; ;) {
      signal.throwIfAborted();
      const selection = { after, upTo: Math.max(head?.sequence ?? 0, highest), limit: BATCH };
      const entries = await this.run(chain, tx => this.repository.batch(tx, chainId, selection));
      for (const entry of entries) verifier.add(entry);
      const last = entries.at(-1);
      if (!last || entries.length < BATCH) break;
      after = last.sequence;
    }
    return { report: verifier.finish(head ?? EMPTY_CHAIN), head: head ?? EMPTY_CHAIN };
  }

  /**
   * Writes down that the chain is exported, and streams it as it stands then. Whoever reads slowly holds neither memory
   * nor a connection; whoever leaves ends it.
   */
  async export(chain: ChainOf, selection: ExportSelection, signal: AbortSignal): Promise<Readable> {
    const { format, startSequence, endSequence, filters } = selection;
    await this.run(chain, tx => {
      const range = { start_sequence: startSequence, end_sequence: endSequence };
      const event = {
        action: 'audit.exported',
        resource: { type: 'audit', id: null },
        details: { format, ...range, filters },
      };
      if (chain === 'tenant') this.audit.record(tx, event);
      else this.audit.recordForPlatform(tx, event);
      return Promise.resolve();
    });
    const head = await this.run(chain, tx => this.repository.head(tx, this.idOf(chain)));
    return Readable.from(this.pieces(chain, selection, head, signal), {
      objectMode: false,
      highWaterMark: 64 * 1024,
    });
  }

  private pieces(
    chain: ChainOf,
    selection: ExportSelection,
    head: ChainHead,
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    const chainId = this.idOf(chain);
    const tenantId = chain === 'tenant' ? chainId : null;
    const { format, filter, startSequence = 1, endSequence = head.sequence } = selection;
    const upTo = Math.min(endSequence, head.sequence);
    // A stream asks for more from wherever its reader has room again: not in the context of this request.
    const inContext = AsyncLocalStorage.snapshot();
    const next = (after: number) =>
      inContext(() =>
        this.run(chain, tx => this.repository.batch(tx, chainId, { after, upTo, limit: BATCH, filter })),
      );
    return (async function* () {
      let count = 0;
      let last: ChainHead | null = null;
      for (let after = startSequence - 1; ;) {
        if (signal.aborted) return;
        const entries = await next(after);
        yield exportedEntries(format, entries, count === 0);
        count += entries.length;
        const newest = entries.at(-1);
        if (newest) last = { sequence: newest.sequence, hash: newest.hash };
        if (!newest || entries.length < BATCH) break;
        after = newest.sequence;
      }
      yield exportEnd(format, { tenantId, head, count, last, upTo, selection });
    })();
  }

  private idOf(chain: ChainOf): string {
    return chain === 'tenant' ? this.context.tenant.id : PLATFORM_CHAIN;
  }

  private run<T>(chain: ChainOf, work: (tx: Tx) => Promise<T>): Promise<T> {
    return chain === 'tenant' ? this.tenantDatabase.run(work) : this.platformDatabase.run(work);
  }
}
