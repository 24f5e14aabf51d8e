import { Module } from '@nestjs/common';
import { ModelsModule } from '../../core/models/models.module.js';
import { RetrievalController } from './retrieval.controller.js';
import { RetrievalRepository } from './retrieval.repository.js';
import { RetrievalService } from './retrieval.service.js';

@Module({
  imports: [ModelsModule],
  controllers: [RetrievalController],
  providers: [RetrievalService, RetrievalRepository],
  exports: [RetrievalService],
})
export class RetrievalModule {}
