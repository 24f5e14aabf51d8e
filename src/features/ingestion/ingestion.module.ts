import { type DynamicModule, Module } from '@nestjs/common';
import { ModelsModule } from '../../core/models/models.module.js';
import { DocumentsModule } from '../documents/documents.module.js';
import { GraphModule } from '../graph/graph.module.js';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { DocumentExtraction } from './document-extraction.service.js';
import { DocumentReading } from './document-reading.service.js';
import { DocumentStaging } from './document-staging.service.js';
import { DocumentLoaderModule } from './document-loader.module.js';
import { IngestionRepository } from './ingestion.repository.js';
import { IngestionService } from './ingestion.service.js';
import { IngestionWorker } from './ingestion-worker.service.js';
import { KbIngestionController } from './kb-ingestion.controller.js';
import { KbIngestionRepository } from './kb-ingestion.repository.js';
import { KbIngestionService } from './kb-ingestion.service.js';
import { KbReindexing } from './kb-reindexing.service.js';
import { PreviewController } from './preview.controller.js';
import { PreviewService } from './preview.service.js';
import { RemoteReaders } from './remote-readers.service.js';
import { WebImport } from './web-import.service.js';
import { WebPages } from './web-pages.service.js';

@Module({})
export class IngestionModule {
  /** @param work whether this process ingests, too */
  static forRoot({ work }: { work: boolean }): DynamicModule {
    return {
      module: IngestionModule,
      imports: [DocumentsModule, GraphModule, KnowledgeBasesModule, ModelsModule, DocumentLoaderModule],
      controllers: [KbIngestionController, PreviewController],
      providers: [
        KbIngestionService,
        PreviewService,
        KbReindexing,
        KbIngestionRepository,
        RemoteReaders,
        WebPages,
        WebImport,
        ...(work
          ? [
              IngestionService,
              IngestionRepository,
              IngestionWorker,
              DocumentReading,
              DocumentStaging,
              DocumentExtraction,
            ]
          : []),
      ],
    };
  }
}
