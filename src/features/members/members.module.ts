import { Module } from '@nestjs/common';
import { RolesModule } from '../roles/roles.module.js';
import { UsersModule } from '../users/users.module.js';
import { AccountsRepository } from './accounts.repository.js';
import { ImportBatchService } from './import-batch.service.js';
import { InvitationAnswersController } from './invitation-answers.controller.js';
import { InvitationAnswersService } from './invitation-answers.service.js';
import { InvitationLimiter } from './invitation-limiter.js';
import { InvitationsController } from './invitations.controller.js';
import { InvitationsRepository } from './invitations.repository.js';
import { InvitationsService } from './invitations.service.js';
import { MemberImportController } from './member-import.controller.js';
import { MemberImportService } from './member-import.service.js';
import { MembersController } from './members.controller.js';
import { MembersRepository } from './members.repository.js';
import { MembersService } from './members.service.js';
import { MembershipsRepository } from './memberships.repository.js';
import { NewMembersService } from './new-members.service.js';
import { UserTenantsController } from './user-tenants.controller.js';

@Module({
  imports: [UsersModule, RolesModule],
  controllers: [
    MembersController,
    MemberImportController,
    InvitationsController,
    InvitationAnswersController,
    UserTenantsController,
  ],
  providers: [
    MembersService,
    NewMembersService,
    MemberImportService,
    ImportBatchService,
    InvitationsService,
    InvitationAnswersService,
    InvitationLimiter,
    MembersRepository,
    MembershipsRepository,
    AccountsRepository,
    InvitationsRepository,
  ],
  exports: [MembersService, InvitationsRepository, MembershipsRepository],
})
export class MembersModule {}
