import { Module } from '@nestjs/common';
import { GranteesRepository } from './grantees.repository.js';
import { GroupsController } from './groups.controller.js';
import { GroupsRepository } from './groups.repository.js';
import { GroupsService } from './groups.service.js';

@Module({
  controllers: [GroupsController],
  providers: [GroupsService, GroupsRepository, GranteesRepository],
  exports: [GranteesRepository],
})
export class GroupsModule {}
