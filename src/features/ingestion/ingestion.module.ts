import { type DynamicModule, Module, type OnApplicationShutdown } from '@nestjs/common';
import { ModelsModule } from '../../core/models/models.module.js';
import type { Env } from '../../foundation/config/env.js';
import { DocumentsModule } from '../documents/documents.module.js';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { DocumentLoader } from './document-loader.js';
import { IngestionRepository } from './ingestion.repository.js';
import { IngestionService } from './ingestion.service.js';
import { IngestionWorker } from './ingestion-worker.service.js';

/** For processes that work on jobs. */
@Module({})
export class IngestionModule implements OnApplicationShutdown {
  constructor(private readonly loader: DocumentLoader) {}

  static forRoot(env: Env): DynamicModule {
    return {
      module: IngestionModule,
      imports: [DocumentsModule, KnowledgeBasesModule, ModelsModule],
      providers: [
        IngestionService,
        IngestionRepository,
        IngestionWorker,
        { provide: DocumentLoader, useFactory: () => new DocumentLoader({ threads: env.workerConcurrency }) },
      ],
    };
  }

  async onApplicationShutdown(): Promise<void> {
    await this.loader.close();
  }
}
