import { type DynamicModule, Module } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import type { Secrets } from '../../foundation/crypto/secrets.js';
import { SessionsService } from '../authentication/sessions.service.js';
import { BoardSessions } from './board-sessions.service.js';
import { QueueBoardController } from './queue-board.controller.js';

@Module({})
export class QueueBoardModule {
  /** @param authentication as the application has it */
  static forRoot({ jwtSecret }: Secrets, authentication: DynamicModule): DynamicModule {
    return {
      module: QueueBoardModule,
      imports: [authentication],
      controllers: [QueueBoardController],
      providers: [
        {
          provide: BoardSessions,
          useFactory: (sessions: SessionsService, authorization: AuthorizationService) =>
            new BoardSessions(jwtSecret, sessions, authorization),
          inject: [SessionsService, AuthorizationService],
        },
      ],
    };
  }
}
