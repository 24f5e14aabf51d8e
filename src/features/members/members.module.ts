import { Module } from '@nestjs/common';
import { RolesModule } from '../roles/roles.module.js';
import { UsersModule } from '../users/users.module.js';
import { MembersController } from './members.controller.js';
import { MembersRepository } from './members.repository.js';
import { MembersService } from './members.service.js';
import { MembershipsRepository } from './memberships.repository.js';

@Module({
  imports: [UsersModule, RolesModule],
  controllers: [MembersController],
  providers: [MembersService, MembersRepository, MembershipsRepository],
  exports: [MembersService, MembershipsRepository],
})
export class MembersModule {}
