import { Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { PlatformModelsRepository } from './platform-models.repository.js';

/** Milliseconds; what was used since is lost when the process dies. */
const FLUSH_EVERY = 2_000;

/** Adds up the tokens that each model has used, and stores the sums now and then: no answer waits for it. */
@Injectable()
export class ModelUsage implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly logger = new Logger(ModelUsage.name);
  private waiting = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly database: PlatformDatabase,
    private readonly repository: PlatformModelsRepository,
  ) {}

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.flush(), FLUSH_EVERY);
    this.timer.unref();
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flush();
  }

  /** @param id of an entry, a tenant’s or the platform’s */
  note(id: string, tokens: number): void {
    if (!Number.isSafeInteger(tokens) || tokens <= 0) return;
    this.waiting.set(id, (this.waiting.get(id) ?? 0) + tokens);
  }

  async flush(): Promise<void> {
    if (this.waiting.size === 0) return;
    const waiting = this.waiting;
    this.waiting = new Map();
    const used = [...waiting].map(([id, tokens]) => ({ id, tokens }));
    try {
      await this.database.run(tx => this.repository.addUsed(tx, used));
    } catch (error) {
      for (const { id, tokens } of used) this.note(id, tokens);
      this.logger.warn(`What models used was not stored: ${(error as Error).message}`);
    }
  }
}
