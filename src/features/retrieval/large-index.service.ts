import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { setTimeout as sleep } from 'node:timers/promises';
import { BackgroundJobs, type JobRun } from '../../core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { type LargeIndexOptions, type LargeIndexStep, changesKb, nextStep } from './large-index-steps.js';
import { type IndexedKnowledgeBase, LargeIndexRepository } from './large-index.repository.js';

export const LARGE_INDEX_JOB = 'large-index';
/** Seconds. */
const EVERY = 30;
/** A step takes about as many milliseconds, and then as long a rest: the embedded database does nothing else meanwhile. */
const STEP_MS = 150;
const FEWEST_PER_STEP = 16;
const MOST_PER_STEP = 16_384;

/** Builds the indexes of large knowledge bases, keeps them up to date, and removes them where they are not worth it. */
@Injectable()
export class LargeIndexService implements OnModuleInit {
  private readonly logger = new Logger(LargeIndexService.name);
  private readonly options: LargeIndexOptions;

  constructor(
    @InjectEnv() env: Env,
    private readonly context: TenantContext,
    private readonly platform: PlatformDatabase,
    private readonly database: TenantDatabase,
    private readonly repository: LargeIndexRepository,
    private readonly jobs: BackgroundJobs,
  ) {
    this.options = { from: env.largeKbChunks, gradually: env.database.mode === 'embedded' };
  }

  onModuleInit(): void {
    this.jobs.define({ kind: LARGE_INDEX_JOB, mostAttempts: 1, every: EVERY, run: job => this.run(job) });
  }

  /**
   * Does what there is to do in all tenants, in turns: a large knowledge base keeps no other one waiting for longer than
   * a step.
   */
  async run({ signal }: Pick<JobRun<null>, 'signal'>): Promise<{ steps: number }> {
    const known = await this.platform.run(tx => this.repository.list(tx, this.options.from));
    let turns = known.filter(kb => nextStep(kb, this.options, false) !== null).map(kb => new Turns(kb));
    let steps = 0;
    while (turns.length > 0) {
      const unfinished: Turns[] = [];
      for (const turn of turns) {
        signal.throwIfAborted();
        if (!(await this.step(turn))) continue;
        steps++;
        unfinished.push(turn);
        await sleep(turn.took, undefined, { signal });
      }
      turns = unfinished;
    }
    return { steps };
  }

  /** @returns whether there was something to do */
  private async step(turn: Turns): Promise<boolean> {
    const { kbId, tenant } = turn.kb;
    const started = performance.now();
    try {
      const done = await this.context.runAsSystem(tenant, () =>
        this.database.run(async tx => {
          const seen = await this.repository.find(tx, kbId);
          const withKb = changesKb(seen && nextStep(seen, this.options, true));
          const state = await this.repository.lock(tx, kbId, withKb);
          const step = state && nextStep(state, this.options, true);
          // Somebody was quicker: the lock of the knowledge base comes first, or not at all.
          if (changesKb(step) && !withKb) return null;
          return state && step && (await this.repository.take(tx, kbId, state, step, turn.atOnce))
            ? step.do
            : null;
        }),
      );
      turn.ended(done, performance.now() - started);
      if (done === 'serve' || done === 'drop')
        this.logger.log({ msg: `Large knowledge base: ${done}`, kb_id: kbId, tenant: tenant.name });
      return done !== null;
    } catch (error) {
      // Another one's fault must not keep the others waiting; it is tried again the next time.
      this.logger.warn(`The index of knowledge base ${kbId} waits: ${(error as Error).message}`);
      return false;
    }
  }
}

/** A knowledge base whose index is being worked on, and how much of that fits into a step. */
class Turns {
  readonly atOnce = { addVectors: 64, addTerms: 512 };
  /** Milliseconds, of the last step. */
  took = 0;

  constructor(readonly kb: IndexedKnowledgeBase) {}

  ended(step: LargeIndexStep['do'] | null, took: number): void {
    this.took = Math.min(took, 1_000);
    if (step !== 'addVectors' && step !== 'addTerms') return;
    const fitting = this.atOnce[step] * Math.min(Math.max(STEP_MS / took, 0.5), 2);
    this.atOnce[step] = Math.round(Math.min(Math.max(fitting, FEWEST_PER_STEP), MOST_PER_STEP));
  }
}
