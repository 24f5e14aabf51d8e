import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { AuthorizationService } from './authorization.service.js';
import { CasbinRulesRepository } from './casbin-rules.repository.js';
import { MemberFactsRepository } from './member-facts.repository.js';
import { PermissionsController } from './permissions.controller.js';
import { RouteAccess } from './route-access.js';
import { TenantAdmission } from './tenant-admission.service.js';

@Global()
@Module({
  imports: [DiscoveryModule],
  controllers: [PermissionsController],
  providers: [
    AuthorizationService,
    CasbinRulesRepository,
    MemberFactsRepository,
    RouteAccess,
    TenantAdmission,
  ],
  exports: [AuthorizationService, RouteAccess, TenantAdmission],
})
export class AuthorizationModule {}
