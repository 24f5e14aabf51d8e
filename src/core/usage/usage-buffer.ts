import { AsyncLocalStorage } from 'node:async_hooks';
import type { UsageRow } from './usage-event.js';

/** How a batch could not be written: `refused` will be again, `unavailable` may pass. */
export type WriteFault = 'refused' | 'unavailable';

export interface UsageBufferOptions {
  /** Writes a batch, wholly or not at all. */
  write: (rows: readonly UsageRow[]) => Promise<void>;
  faultOf: (error: unknown) => WriteFault;
  warn: (message: string) => void;
  /** Milliseconds that an event waits at most. */
  flushAfter?: number;
  /** Events that are written at once. */
  batchSize?: number;
  /** Events that wait at most, while the database is away. */
  capacity?: number;
}

const FLUSH_AFTER_MS = 1_000;
const BATCH_SIZE = 1_000;
/** Some 20 MB. */
const CAPACITY = 50_000;

/**
 * Holds events until there are enough of them, or a second has passed. What a process holds is lost when it is killed, and
 * nothing else: a batch that was not written stays until it is, unless more have come than there is room for.
 */
export class UsageBuffer {
  private rows: UsageRow[] = [];
  private timer: NodeJS.Timeout | null = null;
  private writing: Promise<void> | null = null;
  private dropped = 0;
  /** Whoever pushes may stand in a request, or in a transaction: what is written later belongs to neither. */
  private readonly outside = AsyncLocalStorage.snapshot();
  private readonly flushAfter: number;
  private readonly batchSize: number;
  private readonly capacity: number;

  constructor(private readonly options: UsageBufferOptions) {
    this.flushAfter = options.flushAfter ?? FLUSH_AFTER_MS;
    this.batchSize = options.batchSize ?? BATCH_SIZE;
    this.capacity = options.capacity ?? CAPACITY;
  }

  push(row: UsageRow): void {
    if (this.rows.length >= this.capacity) {
      this.dropped++;
      return;
    }
    this.rows.push(row);
    if (this.rows.length % this.batchSize === 0 && !this.writing) this.outside(() => void this.flush());
    else this.schedule();
  }

  get size(): number {
    return this.rows.length;
  }

  /** Writes all that waits now. What cannot be written stays; nothing is thrown. */
  async flush(): Promise<void> {
    // Whoever asks while a batch is under way wants what came since written, too.
    while (this.writing) await this.writing;
    if (this.rows.length === 0) return;
    this.writing = this.writeAll().finally(() => {
      this.writing = null;
      if (this.rows.length > 0) this.schedule();
    });
    await this.writing;
  }

  private schedule(): void {
    if (this.timer || this.writing) return;
    this.timer = this.outside(() =>
      setTimeout(() => {
        this.timer = null;
        void this.flush();
      }, this.flushAfter),
    );
    // The end of the process flushes, and does not wait for it.
    this.timer.unref();
  }

  private async writeAll(): Promise<void> {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    let waiting = this.rows.length;
    // What comes meanwhile has its own second, unless it fills a batch: otherwise one write would follow the other.
    while (waiting > 0 || this.rows.length >= this.batchSize) {
      const batch = this.rows.slice(0, this.batchSize);
      if (!(await this.write(batch))) return;
      this.rows.splice(0, batch.length);
      waiting -= batch.length;
    }
    if (this.dropped > 0) {
      this.options.warn(`${this.dropped} usage events were dropped while the database was away.`);
      this.dropped = 0;
    }
  }

  /** @returns false where the batch is to be kept */
  private async write(batch: readonly UsageRow[]): Promise<boolean> {
    try {
      await this.options.write(batch);
      return true;
    } catch (error) {
      const reason = (error as Error).message;
      if (this.options.faultOf(error) === 'unavailable') {
        const dropped = this.dropped > 0 ? `, ${this.dropped} dropped` : '';
        this.options.warn(`Usage events wait for the database (${this.rows.length}${dropped}): ${reason}`);
        return false;
      }
      if (batch.length === 1) {
        this.options.warn(`A usage event that the database refuses was dropped: ${reason}`);
        return true;
      }
      // One that is refused must not take the others with it. Those that are sent again later have ids, and count once.
      const middle = Math.ceil(batch.length / 2);
      return (await this.write(batch.slice(0, middle))) && this.write(batch.slice(middle));
    }
  }
}
