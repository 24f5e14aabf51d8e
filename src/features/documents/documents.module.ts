import { Module } from '@nestjs/common';
import { GroupsModule } from '../groups/groups.module.js';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { AllowedTypes } from './allowed-types.service.js';
import { ChunksRepository } from './chunks.repository.js';
import { DocumentAccessController } from './document-access.controller.js';
import { DocumentAccessService } from './document-access.service.js';
import { DocumentContentController } from './document-content.controller.js';
import { DocumentContentService } from './document-content.service.js';
import { DocumentJobsRepository } from './document-jobs.repository.js';
import { DocumentJobs } from './document-jobs.service.js';
import { DocumentDeletionService } from './document-deletion.service.js';
import { DocumentRetentionRepository } from './document-retention.repository.js';
import { DocumentRetention } from './document-retention.service.js';
import { DocumentSourcesService } from './document-sources.service.js';
import { DocumentVersionsService } from './document-versions.service.js';
import { DocumentVersionsRepository } from './document-versions.repository.js';
import { DocumentReadersRepository } from './document-readers.repository.js';
import { DocumentsController } from './documents.controller.js';
import { DocumentsRepository } from './documents.repository.js';
import { DocumentsService } from './documents.service.js';
import { IngestionCalls } from './ingestion-calls.service.js';
import { StagingRepository } from './staging.repository.js';
import { UploadController } from './upload.controller.js';
import { WebDocumentsController } from './web-documents.controller.js';

@Module({
  imports: [KnowledgeBasesModule, GroupsModule],
  controllers: [
    WebDocumentsController,
    DocumentsController,
    DocumentContentController,
    DocumentAccessController,
    UploadController,
  ],
  providers: [
    DocumentsService,
    DocumentSourcesService,
    DocumentVersionsService,
    DocumentDeletionService,
    DocumentRetention,
    DocumentRetentionRepository,
    AllowedTypes,
    DocumentsRepository,
    DocumentAccessService,
    DocumentContentService,
    DocumentJobs,
    DocumentJobsRepository,
    DocumentReadersRepository,
    DocumentVersionsRepository,
    ChunksRepository,
    StagingRepository,
    IngestionCalls,
  ],
  exports: [
    ChunksRepository,
    StagingRepository,
    DocumentsRepository,
    DocumentVersionsRepository,
    DocumentVersionsService,
    DocumentsService,
    DocumentContentService,
    DocumentJobs,
    DocumentJobsRepository,
    IngestionCalls,
  ],
})
export class DocumentsModule {}
