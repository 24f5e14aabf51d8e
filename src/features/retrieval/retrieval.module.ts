import { Module } from '@nestjs/common';
import { ModelsModule } from '../../core/models/models.module.js';
import { DocumentsModule } from '../documents/documents.module.js';
import { GraphSearchRepository } from './graph-search.repository.js';
import { GraphSearch } from './graph-search.service.js';
import { KeywordIndex } from './keyword-index.service.js';
import { LargeIndexRepository } from './large-index.repository.js';
import { LargeIndexService } from './large-index.service.js';
import { QueryVectors } from './query-vectors.service.js';
import { QuestionKeywordsService } from './question-keywords.service.js';
import { Reranking } from './reranking.service.js';
import { RetrievalController } from './retrieval.controller.js';
import { RetrievalRepository } from './retrieval.repository.js';
import { RetrievalService } from './retrieval.service.js';

@Module({
  imports: [ModelsModule, DocumentsModule],
  controllers: [RetrievalController],
  providers: [
    RetrievalService,
    RetrievalRepository,
    QueryVectors,
    GraphSearch,
    GraphSearchRepository,
    QuestionKeywordsService,
    Reranking,
    KeywordIndex,
    LargeIndexService,
    LargeIndexRepository,
  ],
  exports: [RetrievalService],
})
export class RetrievalModule {}
