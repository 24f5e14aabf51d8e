import { Module } from '@nestjs/common';
import { ModelsModule } from '../../core/models/models.module.js';
import { RetrievalModule } from '../retrieval/retrieval.module.js';
import { RagQueryController } from './rag-query.controller.js';
import { RagQueryService } from './rag-query.service.js';

@Module({
  imports: [RetrievalModule, ModelsModule],
  controllers: [RagQueryController],
  providers: [RagQueryService],
})
export class RagQueryModule {}
