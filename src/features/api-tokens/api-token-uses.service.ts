import { type BeforeApplicationShutdown, Injectable, Logger } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { ApiTokenCredentialsRepository } from './api-token-credentials.repository.js';

/** Of one token, all processes together. */
const WRITE_EVERY_S = 60;
/** So that tokens which are used at once are written at once. */
const COLLECT_MS = 1_000;

/** When each token was last used: written down behind the requests, at most once a minute. */
@Injectable()
export class ApiTokenUses implements BeforeApplicationShutdown {
  private readonly logger = new Logger(ApiTokenUses.name);
  private readonly written = new LRUCache<string, true>({ max: 20_000, ttl: WRITE_EVERY_S * 1000 });
  private readonly waiting = new Map<string, Date>();
  private timer: NodeJS.Timeout | null = null;
  private writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly database: PlatformDatabase,
    private readonly repository: ApiTokenCredentialsRepository,
  ) {}

  note(tokenId: string): void {
    if (this.written.has(tokenId)) return;
    this.written.set(tokenId, true);
    this.waiting.set(tokenId, new Date());
    this.timer ??= setTimeout(() => {
      this.writing = this.write();
    }, COLLECT_MS).unref();
  }

  async beforeApplicationShutdown(): Promise<void> {
    if (this.timer) clearTimeout(this.timer);
    await this.writing;
    await this.write();
  }

  private async write(): Promise<void> {
    this.timer = null;
    const uses = [...this.waiting];
    this.waiting.clear();
    if (uses.length === 0) return;
    try {
      await this.database.run(tx => this.repository.writeUses(tx, uses, WRITE_EVERY_S));
    } catch (error) {
      this.logger.warn(`When API tokens were used could not be written: ${(error as Error).message}`);
      // Their next use is written.
      for (const [id] of uses) this.written.delete(id);
    }
  }
}
