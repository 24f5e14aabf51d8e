import { Module } from '@nestjs/common';
import { JwtModule } from '@nestjs/jwt';
import { PassportModule } from '@nestjs/passport';
import { ApiTokensModule } from '../../features/api-tokens/api-tokens.module.js';
import { MembersModule } from '../../features/members/members.module.js';
import { UsersModule } from '../../features/users/users.module.js';
import type { Env } from '../../foundation/config/env.js';
import type { Secrets } from '../../foundation/crypto/secrets.js';
import { ApiTokenStrategy } from './api-token.strategy.js';
import { AuthenticationController } from './authentication.controller.js';
import { AuthenticationService } from './authentication.service.js';
import { FirstAdminService } from './first-admin.service.js';
import { JWT_ALGORITHM, JWT_ISSUER, JwtStrategy } from './jwt.strategy.js';
import { LiveRequests } from './live-requests.js';
import { ReceivedInvitationsController } from './received-invitations.controller.js';
import { ReceivedInvitationsRepository } from './received-invitations.repository.js';
import { SessionsController } from './sessions.controller.js';
import { SessionsRepository } from './sessions.repository.js';
import { SessionsService } from './sessions.service.js';
import { SignInLimiter } from './sign-in-limiter.js';

@Module({})
export class AuthenticationModule {
  static forRoot(env: Env, secrets: Secrets) {
    return {
      module: AuthenticationModule,
      imports: [
        PassportModule,
        JwtModule.register({
          secret: secrets.jwtSecret,
          signOptions: { algorithm: JWT_ALGORITHM, issuer: JWT_ISSUER, expiresIn: env.accessTokenTtl },
        }),
        UsersModule,
        MembersModule,
        ApiTokensModule,
      ],
      controllers: [AuthenticationController, SessionsController, ReceivedInvitationsController],
      providers: [
        AuthenticationService,
        SessionsService,
        SessionsRepository,
        ReceivedInvitationsRepository,
        SignInLimiter,
        JwtStrategy,
        ApiTokenStrategy,
        LiveRequests,
        FirstAdminService,
      ],
      exports: [
        FirstAdminService,
        SessionsService,
        JwtStrategy,
        ApiTokenStrategy,
        LiveRequests,
        ApiTokensModule,
      ],
    };
  }
}
