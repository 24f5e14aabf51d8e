import { type DynamicModule, Module } from '@nestjs/common';
import { BackgroundJobs } from './background-jobs.service.js';
import { JobRunner } from './job-runner.service.js';
import { JobsController } from './jobs.controller.js';
import { JobSources } from './job-sources.js';
import { JobStreams } from './job-streams.service.js';
import { JobWatch } from './job-watch.service.js';
import { JobsRepository } from './jobs.repository.js';
import { JobsService } from './jobs.service.js';

@Module({})
export class BackgroundJobsModule {
  /** @param work whether this process works on jobs, too */
  static forRoot({ work }: { work: boolean }): DynamicModule {
    return {
      module: BackgroundJobsModule,
      global: true,
      controllers: [JobsController],
      providers: [
        BackgroundJobs,
        JobsService,
        JobSources,
        JobWatch,
        JobStreams,
        JobsRepository,
        ...(work ? [JobRunner] : []),
      ],
      exports: [BackgroundJobs, JobSources],
    };
  }
}
