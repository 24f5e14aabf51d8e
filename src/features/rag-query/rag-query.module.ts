import { Module } from '@nestjs/common';
import { ModelsModule } from '../../core/models/models.module.js';
import { RetrievalModule } from '../retrieval/retrieval.module.js';
import { AnswerCacheRepository } from './answer-cache.repository.js';
import { AnswerCacheService } from './answer-cache.service.js';
import { AnswerStreams } from './answer-streams.service.js';
import { AskableKbsService } from './askable-kbs.service.js';
import { AskedKbsRepository } from './asked-kbs.repository.js';
import { GeneratedAnswerService } from './generated-answer.service.js';
import { PaidChatService } from './paid-chat.service.js';
import { RagQueryController } from './rag-query.controller.js';
import { RagQueryService } from './rag-query.service.js';

@Module({
  imports: [RetrievalModule, ModelsModule],
  controllers: [RagQueryController],
  providers: [
    RagQueryService,
    GeneratedAnswerService,
    PaidChatService,
    AnswerCacheService,
    AnswerCacheRepository,
    AskableKbsService,
    AskedKbsRepository,
    AnswerStreams,
  ],
  exports: [RagQueryService, AnswerStreams],
})
export class RagQueryModule {}
