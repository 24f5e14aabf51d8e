import { Global, Module } from '@nestjs/common';
import { FeaturesService } from './features.service.js';
import { PlatformDatabase } from './platform-database.js';
import { TenantContext } from './tenant-context.js';
import { TenantDatabase } from './tenant-database.js';
import { TenantDirectory } from './tenant-directory.js';

@Global()
@Module({
  providers: [TenantContext, TenantDatabase, PlatformDatabase, TenantDirectory, FeaturesService],
  exports: [TenantContext, TenantDatabase, PlatformDatabase, TenantDirectory, FeaturesService],
})
export class TenancyModule {}
