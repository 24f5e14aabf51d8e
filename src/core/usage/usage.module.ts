import { Global, Module } from '@nestjs/common';
import { UsageJobs } from './usage-jobs.service.js';
import { UsageLevelsRepository } from './usage-levels.repository.js';
import { UsageRepository } from './usage.repository.js';
import { UsageService } from './usage.service.js';

@Global()
@Module({
  providers: [UsageService, UsageRepository, UsageLevelsRepository, UsageJobs],
  exports: [UsageService, UsageRepository],
})
export class UsageModule {}
