import type { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { DocumentStage } from '../documents/document.entity.js';
import type { IngestionRepository } from './ingestion.repository.js';

const HEARTBEAT_MS = 5_000;

/** The document is no longer this worker's: cancelled, deleted, taken over. Nothing is to be written any more. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';
}

/** Holds a document for its worker and reports progress; its signal ends the work when the document is lost. */
export class DocumentLease {
  private readonly controller = new AbortController();
  private timer: NodeJS.Timeout;
  private beating: Promise<void> | null = null;
  private stage: DocumentStage = 'load';
  private stageSince = performance.now();
  private readonly times: Partial<Record<DocumentStage, number>> = {};
  private progress = 0;

  /** @param parent aborts when the process shuts down */
  constructor(
    private readonly database: TenantDatabase,
    private readonly repository: Pick<IngestionRepository, 'heartbeat'>,
    private readonly documentId: string,
    readonly owner: string,
    private readonly parent: AbortSignal,
  ) {
    parent.addEventListener('abort', this.abort, { once: true });
    if (parent.aborted) this.abort();
    this.timer = this.start();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Remembers how far the work is; written with the next heartbeat. */
  note(stage: DocumentStage, progress: number): void {
    if (stage !== this.stage) this.clock();
    this.stage = stage;
    this.progress = progress;
  }

  /** Milliseconds that each stage has taken so far. */
  stageTimes(): Readonly<Partial<Record<DocumentStage, number>>> {
    this.clock();
    return this.times;
  }

  /**
   * A transaction of whoever holds the document: it begins with a heartbeat, and is not made at all where that fails.
   *
   * @throws LeaseLostError
   */
  async within<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    try {
      return await this.database.run(async tx => {
        await this.renew(tx);
        return work(tx);
      });
    } catch (error) {
      if (error instanceof LeaseLostError) this.controller.abort(error);
      throw error;
    }
  }

  /** Ends the heartbeats: before a transaction that locks the document, for which they would wait. */
  async rest(): Promise<void> {
    clearInterval(this.timer);
    await this.beating;
  }

  /** After {@link rest}, where the transaction came to nothing and the work goes on. */
  resume(): void {
    clearInterval(this.timer);
    this.timer = this.start();
  }

  end(): void {
    clearInterval(this.timer);
    this.parent.removeEventListener('abort', this.abort);
  }

  /** Counts the time since it was last counted for the present stage. */
  private clock(): void {
    const now = performance.now();
    this.times[this.stage] = Math.round((this.times[this.stage] ?? 0) + now - this.stageSince);
    this.stageSince = now;
  }

  private start(): NodeJS.Timeout {
    return setInterval(() => this.beat(), HEARTBEAT_MS);
  }

  private readonly abort = (): void => this.controller.abort(this.parent.reason);

  private async renew(tx: Tx): Promise<void> {
    const held = await this.repository.heartbeat(tx, this.documentId, this.owner, this.stage, this.progress);
    if (!held) throw new LeaseLostError();
  }

  /** A database that does not answer leads to one heartbeat that waits, not to one every few seconds. */
  private beat(): void {
    this.beating ??= this.within(() => Promise.resolve())
      .catch(() => undefined)
      .finally(() => (this.beating = null));
  }
}
