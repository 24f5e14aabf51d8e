import { Module } from '@nestjs/common';
import { ApiTokensModule } from '../api-tokens/api-tokens.module.js';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { RagQueryModule } from '../rag-query/rag-query.module.js';
import { RetrievalModule } from '../retrieval/retrieval.module.js';
import { UsersModule } from '../users/users.module.js';
import { EvaluationOutcomes } from './evaluation-outcomes.service.js';
import { EvaluationRunner } from './evaluation-runner.service.js';
import { EvaluationStarter } from './evaluation-starter.service.js';
import { EvaluationTrials } from './evaluation-trials.service.js';
import { EvaluationsController } from './evaluations.controller.js';
import { EvaluationsRepository } from './evaluations.repository.js';
import { EvaluationsService } from './evaluations.service.js';

@Module({
  imports: [UsersModule, ApiTokensModule, KnowledgeBasesModule, RetrievalModule, RagQueryModule],
  controllers: [EvaluationsController],
  providers: [
    EvaluationsService,
    EvaluationsRepository,
    EvaluationRunner,
    EvaluationStarter,
    EvaluationTrials,
    EvaluationOutcomes,
  ],
})
export class EvaluationModule {}
