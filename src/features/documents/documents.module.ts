import { type DynamicModule, Module } from '@nestjs/common';
import type { Env } from '../../foundation/config/env.js';
import { JobsModule } from '../../foundation/jobs/jobs.module.js';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { ChunksRepository } from './chunks.repository.js';
import { DocumentsController } from './documents.controller.js';
import { DocumentsRepository } from './documents.repository.js';
import { DocumentsService } from './documents.service.js';
import { INGESTION_QUEUE } from './ingestion-queue.js';

@Module({})
export class DocumentsModule {
  static forRoot(env: Env): DynamicModule {
    const jobs = JobsModule.register(env, INGESTION_QUEUE);
    return {
      module: DocumentsModule,
      imports: [KnowledgeBasesModule, jobs],
      controllers: [DocumentsController],
      providers: [DocumentsService, DocumentsRepository, ChunksRepository],
      exports: [DocumentsService, DocumentsRepository, ChunksRepository, jobs],
    };
  }
}
