import { Module } from '@nestjs/common';
import { PasswordTokensRepository } from './password-tokens.repository.js';
import { PasswordsService } from './passwords.service.js';
import { UserAdministrationRepository } from './user-administration.repository.js';
import { UserAdministrationService } from './user-administration.service.js';
import { UserSessionsRepository } from './user-sessions.repository.js';
import { UserSessionsService } from './user-sessions.service.js';
import { UsersController } from './users.controller.js';
import { UsersRepository } from './users.repository.js';
import { UsersService } from './users.service.js';

@Module({
  controllers: [UsersController],
  providers: [
    UsersService,
    UsersRepository,
    PasswordsService,
    PasswordTokensRepository,
    UserSessionsService,
    UserSessionsRepository,
    UserAdministrationService,
    UserAdministrationRepository,
  ],
  exports: [UsersService, UsersRepository, PasswordsService, UserSessionsService],
})
export class UsersModule {}
