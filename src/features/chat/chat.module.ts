import { Module } from '@nestjs/common';
import { ModelsModule } from '../../core/models/models.module.js';
import { AgentsModule } from '../agents/agents.module.js';
import { DocumentRetentionRepository } from '../documents/document-retention.repository.js';
import { KnowledgeBasesModule } from '../knowledge-bases/knowledge-bases.module.js';
import { RagQueryModule } from '../rag-query/rag-query.module.js';
import { RetrievalModule } from '../retrieval/retrieval.module.js';
import { AgentAnswers } from './agent-answers.service.js';
import { ChatAddressController } from './chat-address.controller.js';
import { ChatAddress } from './chat-address.service.js';
import { ChatController } from './chat.controller.js';
import { ChatExport } from './chat-export.service.js';
import { ChatMessagesRepository } from './chat-messages.repository.js';
import { ChatRetention } from './chat-retention.service.js';
import { ChatService } from './chat.service.js';
import { ChatSessionsController } from './chat-sessions.controller.js';
import { ChatSessionsRepository } from './chat-sessions.repository.js';
import { ChatSessionsService } from './chat-sessions.service.js';
import { ChatTurns } from './chat-turns.service.js';
import { MessageFeedbackController } from './message-feedback.controller.js';

@Module({
  imports: [KnowledgeBasesModule, RetrievalModule, AgentsModule, RagQueryModule, ModelsModule],
  controllers: [ChatController, ChatAddressController, ChatSessionsController, MessageFeedbackController],
  providers: [
    ChatService,
    ChatAddress,
    ChatTurns,
    ChatSessionsService,
    ChatSessionsRepository,
    ChatMessagesRepository,
    ChatExport,
    ChatRetention,
    DocumentRetentionRepository,
    AgentAnswers,
  ],
  exports: [ChatService, ChatSessionsService],
})
export class ChatModule {}
