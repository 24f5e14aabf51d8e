import { Global, Module } from '@nestjs/common';
import { installationEmbedding } from './installation-embedding.js';
import { ModelCatalogue } from './model-catalogue.service.js';
import { ModelClients } from './model-clients.service.js';
import { ModelKeys } from './model-keys.service.js';
import { ModelTrials } from './model-trials.service.js';
import { ModelUsage } from './model-usage.service.js';
import { ModelsController } from './models.controller.js';
import { ModelsRepository } from './models.repository.js';
import { ModelsService } from './models.service.js';
import { PlatformModelsController } from './platform-models.controller.js';
import { PlatformModelsRepository } from './platform-models.repository.js';
import { PlatformModelsService } from './platform-models.service.js';
import { TenantModelsService } from './tenant-models.service.js';

@Global()
@Module({
  controllers: [ModelsController, PlatformModelsController],
  providers: [
    installationEmbedding,
    ModelsService,
    ModelCatalogue,
    ModelClients,
    ModelKeys,
    ModelUsage,
    ModelTrials,
    TenantModelsService,
    PlatformModelsService,
    ModelsRepository,
    PlatformModelsRepository,
  ],
  exports: [ModelsService, ModelKeys],
})
export class ModelsModule {}
