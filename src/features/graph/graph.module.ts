import { Module } from '@nestjs/common';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { GraphReadingRepository } from './graph-reading.repository.js';
import { GraphStagingRepository } from './graph-staging.repository.js';
import { GraphStore } from './graph-store.repository.js';
import { GraphController } from './graph.controller.js';
import { GraphService } from './graph.service.js';
import { ModelExtractor } from './model-extractor.service.js';

@Module({
  imports: [KnowledgeBasesModule],
  controllers: [GraphController],
  providers: [GraphService, GraphReadingRepository, GraphStagingRepository, GraphStore, ModelExtractor],
  exports: [GraphStagingRepository, GraphStore, ModelExtractor],
})
export class GraphModule {}
