import {
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import { IngestionCalls } from '../documents/ingestion-calls.service.js';
import { INGESTION_QUEUE, type IngestionCall } from '../documents/ingestion-queue.js';
import { IngestionRepository } from './ingestion.repository.js';
import { IngestionService } from './ingestion.service.js';
import { KbIngestionRepository } from './kb-ingestion.repository.js';
import { KbReindexing } from './kb-reindexing.service.js';

const LOOK_EVERY_MS = 10_000;
/** How long a shutdown waits for documents under way before it gives them back. */
const GRACE_MS = 10_000;

/**
 * Ingests one document after the other, several at a time, as long as the database names another one. A call of the queue
 * says no more than that there may be one; calls that were lost a look from time to time makes up for.
 */
@Injectable()
export class IngestionWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(IngestionWorker.name);
  private readonly stopping = new AbortController();
  private timer: NodeJS.Timeout | null = null;
  private swapping: Promise<void> | null = null;

  constructor(
    @InjectEnv() private readonly env: Env,
    @InjectJobQueue(INGESTION_QUEUE) private readonly queue: JobQueue<IngestionCall>,
    private readonly calls: IngestionCalls,
    private readonly ingestion: IngestionService,
    private readonly reindexing: KbReindexing,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: PlatformDatabase,
    private readonly repository: IngestionRepository,
    private readonly kbs: KbIngestionRepository,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    // Alone on its database, this process knows at once that whoever worked before it is gone.
    if (this.env.database.mode === 'embedded') {
      await this.database.run(tx => this.repository.endLeases(tx));
    }
    this.queue.process(this.env.workerConcurrency, (_, signal) => this.workOff(signal));
    this.look();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort(new Error('This process is shutting down.'));
    if (this.timer) clearTimeout(this.timer);
    await this.queue.close(GRACE_MS);
    await this.swapping;
  }

  /** @param signal aborts what is under way when a shutdown has waited for long enough */
  private async workOff(signal: AbortSignal): Promise<void> {
    try {
      for (let first = true; !this.stopping.signal.aborted; first = false) {
        const next = await this.database.run(tx => this.repository.pick(tx));
        if (!next) break;
        // Where there is one, there may be more: somebody else has a look, who passes it on in turn.
        if (first) this.calls.now();
        await this.ingestion.ingest(next, signal);
      }
      await this.swapComplete();
    } catch (error) {
      // The rows still say what waits: it is found again.
      this.logger.error(error);
    }
  }

  private look(): void {
    this.calls.now();
    // However busy everybody is with documents.
    void this.swapComplete();
    this.timer = setTimeout(() => this.look(), LOOK_EVERY_MS);
    this.timer.unref();
  }

  /** Ends re-indexings whose last document was deleted or given up, which nobody was working on. */
  private swapComplete(): Promise<void> {
    this.swapping ??= this.swapAll()
      .catch((error: unknown) => this.logger.error(error))
      .finally(() => (this.swapping = null));
    return this.swapping;
  }

  private async swapAll(): Promise<void> {
    if (this.stopping.signal.aborted) return;
    const complete = await this.database.run(tx => this.kbs.listComplete(tx));
    for (const { tenantId, kbId } of complete) {
      const tenant = await this.directory.find(tenantId);
      if (!tenant) continue;
      await this.context.runAsSystem(tenant, () =>
        this.reindexing.swapIfComplete(kbId, this.stopping.signal),
      );
    }
  }
}
