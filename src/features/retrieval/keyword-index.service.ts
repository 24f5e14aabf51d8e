import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { BackgroundJobs, JobError, type JobRun } from '../../core/jobs/background-jobs.service.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { ChunksRepository, KnowledgeBaseGoneError } from '../documents/chunks.repository.js';
import { KEYWORD_INDEX_JOB, type KeywordIndexPayload } from '../knowledge-bases/languages.js';

const MOST_ATTEMPTS = 5;

/** Makes the keyword index of a knowledge base anew once its language has changed. */
@Injectable()
export class KeywordIndex implements OnModuleInit {
  private readonly logger = new Logger(KeywordIndex.name);

  constructor(
    private readonly jobs: BackgroundJobs,
    private readonly database: TenantDatabase,
    private readonly chunks: ChunksRepository,
  ) {}

  onModuleInit(): void {
    this.jobs.define<KeywordIndexPayload>({
      kind: KEYWORD_INDEX_JOB,
      mostAttempts: MOST_ATTEMPTS,
      run: job => this.run(job),
    });
  }

  private async run({ payload: { kbId } }: JobRun<KeywordIndexPayload>): Promise<object> {
    try {
      const { changed, reweighNeeded } = await this.database.run(tx => this.chunks.reindexKeywords(tx, kbId));
      if (reweighNeeded) await this.database.run(tx => this.chunks.reweigh(tx, kbId));
      if (changed) this.logger.log({ msg: 'Keyword index made anew', kb_id: kbId });
      return { kb_id: kbId };
    } catch (error) {
      if (error instanceof KnowledgeBaseGoneError)
        throw new JobError('kb_gone', 'The knowledge base was deleted.');
      throw error;
    }
  }
}
