import { Global, Module } from '@nestjs/common';
import { TenantVariablesController } from './tenant-variables.controller.js';
import { TenantVariablesRepository } from './tenant-variables.repository.js';
import { TenantVariablesService } from './tenant-variables.service.js';

@Global()
@Module({
  controllers: [TenantVariablesController],
  providers: [TenantVariablesService, TenantVariablesRepository],
  exports: [TenantVariablesService],
})
export class VariablesModule {}
