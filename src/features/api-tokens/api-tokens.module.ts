import { Module } from '@nestjs/common';
import { ApiTokenCredentialsRepository } from './api-token-credentials.repository.js';
import { ApiTokenCredentials } from './api-token-credentials.service.js';
import { ApiTokenUses } from './api-token-uses.service.js';
import { ApiTokensController } from './api-tokens.controller.js';
import { ApiTokensRepository } from './api-tokens.repository.js';
import { ApiTokensService } from './api-tokens.service.js';

@Module({
  controllers: [ApiTokensController],
  providers: [
    ApiTokensService,
    ApiTokensRepository,
    ApiTokenCredentials,
    ApiTokenCredentialsRepository,
    ApiTokenUses,
  ],
  exports: [ApiTokenCredentials, ApiTokenUses],
})
export class ApiTokensModule {}
