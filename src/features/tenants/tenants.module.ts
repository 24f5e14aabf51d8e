import { Module } from '@nestjs/common';
import { MembersModule } from '../members/members.module.js';
import { RolesModule } from '../roles/roles.module.js';
import { UsersModule } from '../users/users.module.js';
import { FirstMembersService } from './first-members.service.js';
import { TenantCreationService } from './tenant-creation.service.js';
import { TenantDeletionRepository } from './tenant-deletion.repository.js';
import { TenantDeletionService } from './tenant-deletion.service.js';
import { KeyRotationService } from './key-rotation.service.js';
import { TenantSettingsController } from './tenant-settings.controller.js';
import { TenantSettingsService } from './tenant-settings.service.js';
import { TenantTemplatesController } from './tenant-templates.controller.js';
import { TenantTemplatesRepository } from './tenant-templates.repository.js';
import { TenantTemplatesService } from './tenant-templates.service.js';
import { TenantsController } from './tenants.controller.js';
import { TenantsRepository } from './tenants.repository.js';
import { TenantsService } from './tenants.service.js';

@Module({
  imports: [UsersModule, RolesModule, MembersModule],
  controllers: [TenantsController, TenantSettingsController, TenantTemplatesController],
  providers: [
    TenantsService,
    TenantCreationService,
    FirstMembersService,
    TenantDeletionService,
    TenantTemplatesService,
    TenantSettingsService,
    KeyRotationService,
    TenantsRepository,
    TenantDeletionRepository,
    TenantTemplatesRepository,
  ],
  exports: [KeyRotationService],
})
export class TenantsModule {}
