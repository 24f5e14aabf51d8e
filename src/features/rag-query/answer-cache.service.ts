import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../core/audit/audit-entry.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import type { EffectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { AnswerCacheRepository, type KeptAnswer } from './answer-cache.repository.js';
import { RULES } from './answer-prompt.js';
import type { AskedKb } from './asked-kbs.repository.js';

const SWEEP_JOB = 'answer_cache.sweep';
const SWEEP_EVERY = 600;
const AT_ONCE = 1_000;

/** Seconds for which an answer stands, whatever becomes of it. */
const KEEP_FOR = 24 * 3600;
/** Of one tenant; what was used last stays. */
const MOST_ANSWERS = 2_000;
/** Bytes: what is larger is not kept. */
const LARGEST_ANSWER = 256 * 1024;

/** Everything that an answer depends on. */
export interface CacheQuestion {
  kbs: readonly AskedKb[];
  config: EffectiveConfig;
  /** Which models may write the answer and order its passages, as they are, and which one was chosen. */
  models: readonly string[];
  /** The request's own fields: question, filter, how to search and to answer. */
  request: unknown;
}

/**
 * Answers that models have given, for questions that are asked again word for word: of the same knowledge bases with the
 * same contents, of the same model with the same settings, and of whoever sees the same documents. The key says all of
 * that, and the database shows an answer only to those who see everything that it was made from.
 */
@Injectable()
export class AnswerCacheService implements OnModuleInit {
  private readonly logger = new Logger(AnswerCacheService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly repository: AnswerCacheRepository,
    private readonly jobs: BackgroundJobs,
  ) {}

  onModuleInit(): void {
    this.jobs.define({
      kind: SWEEP_JOB,
      mostAttempts: 3,
      every: SWEEP_EVERY,
      run: ({ signal }) => this.sweep(signal),
    });
  }

  /** Of the context's tenant and principal. */
  keyOf({ kbs, config, models, request }: CacheQuestion): Buffer {
    const parts = {
      rules: RULES,
      tenant: this.context.tenant.id,
      kbs: kbs.map(({ id, contentVersion, config: own }) => [id, contentVersion, own]),
      view: this.viewOf(kbs),
      config,
      models,
      request,
    };
    return createHash('sha256').update(canonicalJson(parts)).digest();
  }

  find(key: Buffer): Promise<KeptAnswer | null> {
    return this.database.run(tx => this.repository.find(tx, key));
  }

  /** Never fails: an answer is as good where it cannot be kept. */
  async keep(key: Buffer, kbs: readonly AskedKb[], answer: KeptAnswer): Promise<void> {
    if (Buffer.byteLength(JSON.stringify(answer)) > LARGEST_ANSWER) return;
    const entry = {
      key,
      kbIds: kbs.map(({ id }) => id),
      contentVersions: kbs.map(({ contentVersion }) => contentVersion),
      documentIds: [...new Set(answer.passages.map(passage => passage.document_id))],
      answer,
      seconds: KEEP_FOR,
    };
    try {
      await this.database.run(tx => this.repository.insert(tx, this.context.tenant.id, entry));
    } catch (error) {
      this.logger.warn(`An answer was not kept: ${(error as Error).message}`);
    }
  }

  /** Where documents are hidden from somebody, whoever sees others sees other passages. */
  private viewOf(kbs: readonly AskedKb[]): unknown {
    if (!kbs.some(({ partlyHidden }) => partlyHidden)) return 'everything';
    const { principal, access } = this.context;
    const userId = principal.kind === 'system' ? null : principal.userId;
    return { userId, groups: access.groups.toSorted(), kbs: access.kbIds?.toSorted() ?? null };
  }

  private async sweep(signal: AbortSignal): Promise<object> {
    const all = async (work: () => Promise<number>) => {
      let removed = 0;
      for (let count = AT_ONCE; count >= AT_ONCE; removed += count) {
        signal.throwIfAborted();
        count = await work();
      }
      return removed;
    };
    const run = this.platformDatabase;
    const unreachable = await all(() => run.run(tx => this.repository.deleteUnreachable(tx, AT_ONCE)));
    const surplus = await all(() => run.run(tx => this.repository.deleteSurplus(tx, MOST_ANSWERS, AT_ONCE)));
    return { unreachable, surplus };
  }
}
