import { Module } from '@nestjs/common';
import { GroupsModule } from '../groups/groups.module.js';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { ChunksRepository } from './chunks.repository.js';
import { DocumentAccessController } from './document-access.controller.js';
import { DocumentAccessService } from './document-access.service.js';
import { DocumentReadersRepository } from './document-readers.repository.js';
import { DocumentsController } from './documents.controller.js';
import { DocumentsRepository } from './documents.repository.js';
import { DocumentsService } from './documents.service.js';

@Module({
  imports: [KnowledgeBasesModule, GroupsModule],
  controllers: [DocumentsController, DocumentAccessController],
  providers: [
    DocumentsService,
    DocumentsRepository,
    DocumentAccessService,
    DocumentReadersRepository,
    ChunksRepository,
  ],
  exports: [ChunksRepository],
})
export class DocumentsModule {}
