import {
  type BeforeApplicationShutdown,
  Injectable,
  Logger,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { EventsRepository, type StoredEvent } from './events.repository.js';
import { EventsService } from './events.service.js';

const LOOK_EVERY_MS = 1_000;
const MOST_AT_ONCE = 200;
/** How long an event stays aside that a listener could not take over. */
const ASIDE_MS = 60_000;

/** Hands events from the outbox to those who listen. Only in processes that work on jobs. */
@Injectable()
export class EventDispatcher implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(EventDispatcher.name);
  private timer: NodeJS.Timeout | null = null;
  private looking: Promise<void> = Promise.resolve();
  private stopped = false;
  /** Ids of events that no listener must be bothered with yet, and until when: they would hold up all others. */
  private readonly aside = new Map<string, number>();

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

  /** @returns how many events were taken from the outbox, or put aside */
  private async dispatch(limit = MOST_AT_ONCE): Promise<number> {
    if (this.events.listeners.length === 0) return 0;
    for (const [id, until] of this.aside) if (until <= Date.now()) this.aside.delete(id);
    let taken: readonly StoredEvent[] = [];
    try {
      await this.database.run(async tx => {
        taken = await this.repository.take(tx, limit, [...this.aside.keys()]);
        if (taken.length > 0) for (const listener of this.events.listeners) await listener(tx, taken);
      });
      return taken.length;
    } catch (error) {
      const [first] = taken;
      if (!first) throw error;
      // All of them are back in the outbox: one by one, it shows which of them it was.
      if (taken.length > 1) {
        for (let left = taken.length; left > 0 && !this.stopped; left--) await this.dispatch(1);
        return limit;
      }
      this.aside.set(first.id, Date.now() + ASIDE_MS);
      this.logger.error(`The event ${first.id} (${first.type}) stays aside: ${(error as Error).message}`);
      return 1;
    }
  }
}
