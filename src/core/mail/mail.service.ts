import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { BackgroundJobs } from '../jobs/background-jobs.service.js';

export const MAIL_JOB = 'mail';

/** The e-mails that are sent, with what their templates need. Tokens are secrets: they stand sealed in the queue. */
export type MailContent =
  | {
      template: 'invitation';
      data: {
        tenantName: string;
        inviter: string;
        roles: string[];
        message: string | null;
        token: string;
        /** ISO 8601. */
        expiresAt: string;
      };
    }
  /** To somebody who was added; `token` lets a new account choose its password. */
  | { template: 'welcome'; data: { tenantName: string; roles: string[]; token: string | null } }
  | { template: 'password-reset'; data: { token: string; expiresAt: string } }
  | { template: 'password-changed'; data: Record<string, never> };

export type Mail = MailContent & {
  to: string;
  /** Of whoever receives it: `language` of the account, where there is one. */
  language?: string;
  /** Whose branding it bears, and whose job it is; null: the installation's. */
  tenantId: string | null;
};

/** Sends e-mails, as jobs: what was rolled back is not sent, and what the mail server refuses for now is tried again. */
@Injectable()
export class MailService {
  constructor(private readonly jobs: BackgroundJobs) {}

  /** Puts an e-mail into the queue, in the transaction that is its reason. */
  async send(tx: Tx, mail: Mail): Promise<void> {
    await this.jobs.enqueue(tx, { kind: MAIL_JOB, payload: mail, tenantId: mail.tenantId });
  }
}
