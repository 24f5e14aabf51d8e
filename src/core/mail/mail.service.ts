import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { BackgroundJobs } from '../jobs/background-jobs.service.js';
import type { Mail } from './mail-content.js';

export const MAIL_JOB = 'mail';

/** Sends e-mails, as jobs: what was rolled back is not sent, and what the mail server refuses for now is tried again. */
@Injectable()
export class MailService {
  constructor(private readonly jobs: BackgroundJobs) {}

  /** Puts an e-mail into the queue, in the transaction that is its reason. */
  async send(tx: Tx, mail: Mail): Promise<void> {
    await this.jobs.enqueue(tx, { kind: MAIL_JOB, payload: mail, tenantId: mail.tenantId });
  }

  /** The same for many at once. */
  async sendMany(tx: Tx, mails: readonly Mail[]): Promise<void> {
    const jobs = mails.map(mail => ({ kind: MAIL_JOB, payload: mail, tenantId: mail.tenantId }));
    await this.jobs.enqueueMany(tx, jobs);
  }
}
