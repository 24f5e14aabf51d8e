import { type DynamicModule, Module } from '@nestjs/common';
import type { Env } from '../config/env.js';
import { FolderTransport } from './folder-transport.js';
import { MailTransport } from './mail-transport.js';
import { SmtpTransport } from './smtp-transport.js';

@Module({})
export class MailTransportModule {
  static forRoot(env: Env): DynamicModule {
    return {
      module: MailTransportModule,
      global: true,
      providers: [
        { provide: MailTransport, useClass: env.mail.smtpUrl === null ? FolderTransport : SmtpTransport },
      ],
      exports: [MailTransport],
    };
  }
}
