import { Module } from '@nestjs/common';
import { EffectivePermissionsController } from './effective-permissions.controller.js';
import { EffectivePermissionsService } from './effective-permissions.service.js';
import { RolesController } from './roles.controller.js';
import { RolesRepository } from './roles.repository.js';
import { RolesService } from './roles.service.js';

@Module({
  controllers: [RolesController, EffectivePermissionsController],
  providers: [RolesService, RolesRepository, EffectivePermissionsService],
  exports: [RolesService],
})
export class RolesModule {}
