import { Injectable, Logger } from '@nestjs/common';
import { createTransport } from 'nodemailer';
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InjectEnv } from '../config/config.module.js';
import type { Env } from '../config/env.js';
import { toMessage } from './mail-message.js';
import { MailTransport, type OutgoingMail } from './mail-transport.js';

/** Files; those before the newest are deleted. */
const MOST_FILES = 1_000;

/** E-mails as files in the data folder, where no mail server is configured. They hold tokens: for nobody else's eyes. */
@Injectable()
export class FolderTransport extends MailTransport {
  private readonly logger = new Logger('mail');
  private readonly transporter = createTransport({ streamTransport: true, buffer: true, newline: 'windows' });
  private readonly folder: string;

  constructor(@InjectEnv() private readonly env: Pick<Env, 'dataDir' | 'mail'>) {
    super();
    this.folder = join(env.dataDir, 'mail');
  }

  async deliver(mail: OutgoingMail): Promise<void> {
    const message = toMessage(mail, this.env.mail.from);
    const { message: content } = await this.transporter.sendMail(message);
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    const path = join(this.folder, `${mail.id}.eml`);
    // Whole or not at all, for whoever looks into the folder meanwhile.
    const draft = join(this.folder, `.${randomUUID()}`);
    try {
      const file = await open(draft, 'wx', 0o600);
      try {
        await file.writeFile(content as Buffer);
      } finally {
        await file.close();
      }
      await rename(draft, path);
    } finally {
      await rm(draft, { force: true });
    }
    this.logger.log(`E-mail to ${mail.to}, "${message.subject}": ${path}`);
    await this.prune();
  }

  private async prune(): Promise<void> {
    const names = (await readdir(this.folder)).filter(name => name.endsWith('.eml'));
    // Ids are UUIDs of version 7, in the order in which they were made.
    const old = names.toSorted().slice(0, Math.max(0, names.length - MOST_FILES));
    await Promise.all(old.map(name => rm(join(this.folder, name), { force: true })));
  }
}
