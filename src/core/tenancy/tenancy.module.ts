import { Global, Module } from '@nestjs/common';
import { FeaturesService } from './features.service.js';
import { PlatformDatabase } from './platform-database.js';
import { QuotaSignals } from './quota-exceeded.js';
import { TenantContext } from './tenant-context.js';
import { TenantDatabase } from './tenant-database.js';
import { TenantDirectory } from './tenant-directory.js';

@Global()
@Module({
  providers: [
    TenantContext,
    TenantDatabase,
    PlatformDatabase,
    TenantDirectory,
    FeaturesService,
    QuotaSignals,
  ],
  exports: [TenantContext, TenantDatabase, PlatformDatabase, TenantDirectory, FeaturesService, QuotaSignals],
})
export class TenancyModule {}
