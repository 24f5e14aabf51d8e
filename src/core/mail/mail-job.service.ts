import { Injectable, type OnModuleInit } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { MailRefusedError, MailTransport } from '../../foundation/mail/mail-transport.js';
import { BackgroundJobs, JobError, type JobRun } from '../jobs/background-jobs.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { BrandingRepository } from './branding.repository.js';
import type { Mail } from './mail-content.js';
import { type Branding, INSTALLATION, toBranding, toHtml, toText } from './mail-layout.js';
import { writeLetter } from './mail-letter.js';
import { MAIL_JOB } from './mail.service.js';

/** With the pauses between them, a mail server may be away for an hour. */
const MOST_ATTEMPTS = 14;

/** Works on the jobs of {@link MailService}. */
@Injectable()
export class MailJobService implements OnModuleInit {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly database: PlatformDatabase,
    private readonly brandings: BrandingRepository,
    private readonly jobs: BackgroundJobs,
    private readonly transport: MailTransport,
  ) {}

  onModuleInit(): void {
    this.jobs.define<Mail>({ kind: MAIL_JOB, mostAttempts: MOST_ATTEMPTS, run: job => this.send(job) });
  }

  /** @throws JobError where the mail server will not take it at all */
  private async send({ id, payload: mail, signal }: JobRun<Mail>): Promise<void> {
    const branding = mail.tenantId ? await this.brandingOf(mail.tenantId) : INSTALLATION;
    // Its tenant was deleted just now: there is nothing left to write about.
    if (!branding) return;
    const letter = writeLetter(mail, baseUrlOf(this.env));
    try {
      await this.transport.deliver(
        {
          id,
          to: mail.to,
          subject: letter.subject,
          text: toText(letter, branding),
          html: toHtml(letter, branding),
        },
        signal,
      );
    } catch (error) {
      if (error instanceof MailRefusedError) throw new JobError('mail_refused', error.message);
      throw error;
    }
  }

  private async brandingOf(tenantId: string): Promise<Branding | null> {
    const found = await this.database.run(tx => this.brandings.find(tx, tenantId));
    return found && toBranding(found.displayName, found.branding);
  }
}

/** Where links lead: without a setting, to the address that the process listens on. */
export function baseUrlOf({ publicUrl, host, port }: Pick<Env, 'publicUrl' | 'host' | 'port'>): string {
  if (publicUrl) return publicUrl;
  // Every interface is no place that a browser could go to.
  const name = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}
