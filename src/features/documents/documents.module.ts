import { Module } from '@nestjs/common';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { ChunksRepository } from './chunks.repository.js';
import { DocumentsController } from './documents.controller.js';
import { DocumentsRepository } from './documents.repository.js';
import { DocumentsService } from './documents.service.js';

@Module({
  imports: [KnowledgeBasesModule],
  controllers: [DocumentsController],
  providers: [DocumentsService, DocumentsRepository, ChunksRepository],
  exports: [ChunksRepository],
})
export class DocumentsModule {}
