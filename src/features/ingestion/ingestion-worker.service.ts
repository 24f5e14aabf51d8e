import {
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import { INGESTION_QUEUE, type IngestionCall } from '../documents/ingestion-queue.js';
import { IngestionRepository } from './ingestion.repository.js';
import { IngestionService } from './ingestion.service.js';

const LOOK_EVERY_MS = 10_000;
const MOST_AT_ONCE = 1_000;
/** How long a shutdown waits for documents under way before it gives them back. */
const GRACE_MS = 10_000;

/** Works on the ingestion queue, and looks from time to time for documents whose call was lost. */
@Injectable()
export class IngestionWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(IngestionWorker.name);
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;

  constructor(
    @InjectEnv() private readonly env: Env,
    @InjectJobQueue(INGESTION_QUEUE) private readonly queue: JobQueue<IngestionCall>,
    private readonly ingestion: IngestionService,
    private readonly database: PlatformDatabase,
    private readonly repository: IngestionRepository,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    this.queue.process(this.env.workerConcurrency, async (call, signal) => {
      try {
        await this.ingestion.ingest(call, signal);
      } catch (error) {
        // The row still says that the document waits: it is found again.
        this.logger.error(error);
      }
    });
    // Alone on its database, this process knows at once that whoever worked before it is gone.
    await this.lookForUnfinished(this.env.database.mode === 'embedded');
    this.schedule();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopped = true;
    if (this.timer) clearTimeout(this.timer);
    await this.queue.close(GRACE_MS);
  }

  private schedule(): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      void this.lookForUnfinished(false).finally(() => this.schedule());
    }, LOOK_EVERY_MS);
    this.timer.unref();
  }

  private async lookForUnfinished(takeOver: boolean): Promise<void> {
    try {
      const documents = await this.database.run(tx =>
        this.repository.listUnfinished(tx, takeOver, MOST_AT_ONCE),
      );
      for (const { id, tenantId } of documents) {
        await this.queue.add(id, { tenantId, documentId: id, ...(takeOver && { takeOver }) });
      }
    } catch (error) {
      this.logger.warn(`Looking for unfinished documents failed: ${(error as Error).message}`);
    }
  }
}
