import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import PostalMime from 'postal-mime';
import { type Mailbox, type ReceivedMail, waitForMail } from './mail-server.js';

/** The e-mails of an application that has no mail server, of `app.env.dataDir`. */
export function mailFolder(dataDir: string): Mailbox {
  const folder = join(dataDir, 'mail');
  const messages = async (): Promise<ReceivedMail[]> => {
    if (!existsSync(folder)) return [];
    const names = (await readdir(folder)).filter(name => name.endsWith('.eml')).toSorted();
    return Promise.all(
      names.map(async name => {
        const raw = await readFile(join(folder, name), 'utf8');
        const mail = await PostalMime.parse(raw);
        const recipients = (mail.to ?? []).map(({ address }) => address ?? '');
        return { ...mail, recipients, raw };
      }),
    );
  };
  return { messages, waitFor: (to, count) => waitForMail(messages, to, count) };
}
