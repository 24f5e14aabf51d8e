import { Module } from '@nestjs/common';
import { KnowledgeBasesController } from './knowledge-bases.controller.js';
import { KnowledgeBasesRepository } from './knowledge-bases.repository.js';
import { KnowledgeBasesService } from './knowledge-bases.service.js';

@Module({
  controllers: [KnowledgeBasesController],
  providers: [KnowledgeBasesService, KnowledgeBasesRepository],
  exports: [KnowledgeBasesService, KnowledgeBasesRepository],
})
export class KnowledgeBasesModule {}
