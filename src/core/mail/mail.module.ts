import { Global, Module } from '@nestjs/common';
import { BrandingRepository } from './branding.repository.js';
import { MailJobService } from './mail-job.service.js';
import { MailService } from './mail.service.js';

@Global()
@Module({ providers: [MailService, MailJobService, BrandingRepository], exports: [MailService] })
export class MailModule {}
