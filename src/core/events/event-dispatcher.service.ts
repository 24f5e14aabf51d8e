import {
  type BeforeApplicationShutdown,
  Injectable,
  Logger,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { EventsRepository } from './events.repository.js';
import { EventsService } from './events.service.js';

const LOOK_EVERY_MS = 1_000;
const MOST_AT_ONCE = 200;

/** Hands events from the outbox to those who listen. Only in processes that work on jobs. */
@Injectable()
export class EventDispatcher implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(EventDispatcher.name);
  private timer: NodeJS.Timeout | null = null;
  private looking: Promise<void> = Promise.resolve();
  private stopped = false;

  constructor(
    private readonly database: PlatformDatabase,
    private readonly events: EventsService,
    private readonly repository: EventsRepository,
  ) {}

  onApplicationBootstrap(): void {
    this.schedule();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopped = true;
    if (this.timer) clearTimeout(this.timer);
    await this.looking;
  }

  private schedule(): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      this.looking = this.look().finally(() => this.schedule());
    }, LOOK_EVERY_MS);
    this.timer.unref();
  }

  private async look(): Promise<void> {
    try {
      let taken = MOST_AT_ONCE;
      while (taken === MOST_AT_ONCE && !this.stopped) taken = await this.dispatch();
    } catch (error) {
      this.logger.warn(`Events wait in the outbox: ${(error as Error).message}`);
    }
  }

  private dispatch(): Promise<number> {
    return this.database.run(async tx => {
      const events = await this.repository.take(tx, MOST_AT_ONCE);
      if (events.length > 0) for (const listener of this.events.listeners) await listener(tx, events);
      return events.length;
    });
  }
}
