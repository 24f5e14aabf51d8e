import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Job } from './jobs.repository.js';

/** Work that is looked at like a job, under an id of its own, but kept elsewhere than in the queue of jobs. */
export interface JobSource {
  /**
   * The job of this id, as the principal of the context may see it. Opens transactions of its own.
   *
   * @returns null where there is none, or none for this principal
   */
  find(id: string): Promise<Job | null>;
  /**
   * Of those of `ids` that are this source's, something that becomes another whenever the job does. Asked twice a second
   * while somebody watches, in a transaction of the platform.
   */
  marks(tx: Tx, ids: readonly string[]): Promise<ReadonlyMap<string, string>>;
}

/** Rooms that stand above this one say here what of theirs is a job, too. */
@Injectable()
export class JobSources {
  private readonly sources: JobSource[] = [];

  /** To be called while the application starts. */
  register(source: JobSource): void {
    this.sources.push(source);
  }

  async find(id: string): Promise<Job | null> {
    for (const source of this.sources) {
      const job = await source.find(id);
      if (job) return job;
    }
    return null;
  }

  async marks(tx: Tx, ids: readonly string[]): Promise<Map<string, string>> {
    const all = new Map<string, string>();
    for (const source of this.sources) {
      for (const [id, mark] of await source.marks(tx, ids)) all.set(id, mark);
    }
    return all;
  }
}
