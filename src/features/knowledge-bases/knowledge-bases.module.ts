import { Module } from '@nestjs/common';
import { GroupsModule } from '../groups/groups.module.js';
import { RolesModule } from '../roles/roles.module.js';
import { KbGrantsController } from './kb-grants.controller.js';
import { KbGrantsRepository } from './kb-grants.repository.js';
import { KbGrantsService } from './kb-grants.service.js';
import { KnowledgeBaseConfigController } from './knowledge-base-config.controller.js';
import { KnowledgeBaseConfigService } from './knowledge-base-config.service.js';
import { KnowledgeBasesController } from './knowledge-bases.controller.js';
import { KnowledgeBasesRepository } from './knowledge-bases.repository.js';
import { KnowledgeBasesService } from './knowledge-bases.service.js';

@Module({
  imports: [RolesModule, GroupsModule],
  controllers: [KnowledgeBasesController, KnowledgeBaseConfigController, KbGrantsController],
  providers: [
    KnowledgeBasesService,
    KnowledgeBaseConfigService,
    KnowledgeBasesRepository,
    KbGrantsService,
    KbGrantsRepository,
  ],
  exports: [KnowledgeBasesService, KnowledgeBasesRepository],
})
export class KnowledgeBasesModule {}
