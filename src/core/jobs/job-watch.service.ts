import {
  type BeforeApplicationShutdown,
  Injectable,
  Logger,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import { POLICY_TOPIC } from '../authorization/authorization.service.js';
import { PLATFORM_DOMAIN, tenantOfDomain } from '../authorization/permissions.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TENANT_TOPIC } from '../tenancy/tenant-directory.js';
import { JobSources } from './job-sources.js';

const LOOK_EVERY_MS = 500;

interface Watched {
  tenantId: string | null;
  /** As it was when it was last looked at; null: not yet, or it was not there. */
  mark: string | null;
  listeners: Set<() => void>;
}

/**
 * Tells of changes of jobs: one look through the database for everybody in this process who watches, however many. Who may
 * see what has changed is for the listener to ask; where that itself may have changed, it is told too.
 */
@Injectable()
export class JobWatch implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(JobWatch.name);
  private readonly watched = new Map<string, Watched>();
  private timer: NodeJS.Timeout | null = null;
  private looking = false;

  constructor(
    private readonly database: PlatformDatabase,
    private readonly sources: JobSources,
    private readonly changes: ChangeFeed,
  ) {}

  onApplicationBootstrap(): void {
    // From here, so that no look runs in the context of the request that has begun to watch.
    this.timer = setInterval(() => void this.look(), LOOK_EVERY_MS);
    this.timer.unref();
    const tellAll = () => this.tell(() => true);
    this.changes.subscribe(
      POLICY_TOPIC,
      domain => (domain === PLATFORM_DOMAIN ? tellAll() : this.tellTenant(tenantOfDomain(domain))),
      tellAll,
    );
    this.changes.subscribe(TENANT_TOPIC, id => this.tellTenant(id), tellAll);
  }

  beforeApplicationShutdown(): void {
    if (this.timer) clearInterval(this.timer);
  }

  /**
   * Calls `listener` whenever the job may have changed, and at least once.
   *
   * @returns ends that
   */
  watch({ id, tenantId }: { id: string; tenantId: string | null }, listener: () => void): () => void {
    const watched = this.watched.get(id) ?? { tenantId, mark: null, listeners: new Set() };
    this.watched.set(id, watched);
    watched.listeners.add(listener);
    // Whoever joins is told as well, whatever the others have heard.
    watched.mark = null;
    return () => {
      watched.listeners.delete(listener);
      if (watched.listeners.size === 0) this.watched.delete(id);
    };
  }

  private async look(): Promise<void> {
    if (this.watched.size === 0 || this.looking) return;
    this.looking = true;
    try {
      const marks = await this.database.run(tx => this.sources.marks(tx, [...this.watched.keys()]));
      for (const [id, watched] of this.watched) {
        const mark = marks.get(id) ?? null;
        // What is gone is told of once more, and then given up by whoever watches it.
        if (mark !== null && mark === watched.mark) continue;
        watched.mark = mark;
        for (const listener of watched.listeners) listener();
      }
    } catch (error) {
      this.logger.warn(`Looking for changes of jobs failed: ${(error as Error).message}`);
    } finally {
      this.looking = false;
    }
  }

  private tellTenant(tenantId: string | null): void {
    this.tell(watched => watched.tenantId === tenantId);
  }

  private tell(concerned: (watched: Watched) => boolean): void {
    for (const watched of [...this.watched.values()].filter(concerned)) {
      for (const listener of watched.listeners) listener();
    }
  }
}
