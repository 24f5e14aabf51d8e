import { setTimeout as sleep } from 'node:timers/promises';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import PostalMime, { type Email } from 'postal-mime';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';

/** An e-mail as it arrived. */
export interface ReceivedMail extends Email {
  /** Of the envelope, not of the header. */
  recipients: string[];
  raw: string;
}

/** What happens to one attempt to send something instead of its acceptance. */
export type MailFault =
  | { status: number; at: 'recipient' | 'data' }
  /** Says nothing any more. */
  | { hang: true };

/** A mail server on the loopback that keeps what it is sent. */
export interface MailServer extends Mailbox {
  /** For SMTP_URL. */
  readonly url: string;
  /** Attempts, those that met a fault too. */
  readonly attempts: number;
  /** The next attempts meet these faults, in turn. */
  failNext(...faults: MailFault[]): void;
  close(): Promise<void>;
}

/** What tests do with e-mails, wherever they are kept. */
export interface Mailbox {
  /** All that arrived, in their order. */
  messages(): Promise<ReceivedMail[]>;
  /** Waits until `count` e-mails to this address have arrived; the last of them. */
  waitFor(to: string, count?: number): Promise<ReceivedMail>;
}

const WAIT_MS = 15_000;

/** @param credentials that the server wants; none: it takes everybody’s */
export async function startMailServer(credentials?: { user: string; pass: string }): Promise<MailServer> {
  const received: ReceivedMail[] = [];
  const faults: MailFault[] = [];
  let attempts = 0;
  const faultAt = (at: 'recipient' | 'data') => {
    const [next] = faults;
    return next && 'at' in next && next.at === at ? (faults.shift() as { status: number }) : null;
  };
  const refusal = ({ status }: { status: number }) =>
    Object.assign(new Error('Refused by the test'), { responseCode: status });
  const options: SMTPServerOptions = {
    disabledCommands: credentials ? ['STARTTLS'] : ['STARTTLS', 'AUTH'],
    allowInsecureAuth: true,
    authOptional: !credentials,
    logger: false,
    onAuth({ username, password }, _session, done) {
      const known = username === credentials?.user && password === credentials?.pass;
      done(known ? null : Object.assign(new Error('Unknown'), { responseCode: 535 }), { user: username });
    },
    onRcptTo(_address, _session, done) {
      attempts++;
      if (faults[0] && 'hang' in faults[0]) {
        faults.shift();
        return;
      }
      const fault = faultAt('recipient');
      done(fault ? refusal(fault) : null);
    },
    onData(stream, session, done) {
      const fault = faultAt('data');
      const receive = async () => {
        try {
          const content = await buffer(stream);
          const recipients = session.envelope.rcptTo.map(({ address }) => address);
          const mail = { ...(await PostalMime.parse(content)), recipients, raw: content.toString('utf8') };
          if (!fault) received.push(mail);
          done(fault ? refusal(fault) : null);
        } catch (error) {
          done(error as Error);
        }
      };
      void receive();
    },
  };
  const server = new SMTPServer(options);
  server.on('error', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  const { port } = server.server.address() as AddressInfo;
  const login = credentials ? `${credentials.user}:${encodeURIComponent(credentials.pass)}@` : '';
  return {
    url: `smtp://${login}127.0.0.1:${port}`,
    get attempts() {
      return attempts;
    },
    failNext: (...next) => void faults.push(...next),
    messages: () => Promise.resolve([...received]),
    waitFor: (to, count) => waitForMail(() => Promise.resolve(received), to, count),
    close: () => new Promise(resolve => server.close(() => resolve())),
  };
}

/** Looks until `count` e-mails to `to` are there. */
export async function waitForMail(
  look: () => Promise<ReceivedMail[]>,
  to: string,
  count = 1,
): Promise<ReceivedMail> {
  let found: ReceivedMail[] = [];
  for (let waited = 0; waited < WAIT_MS; waited += 50) {
    found = (await look()).filter(mail => mail.recipients.includes(to));
    if (found.length >= count) return found[count - 1] as ReceivedMail;
    await sleep(50);
  }
  throw new Error(`${found.length} of ${count} e-mails to ${to} have arrived in ${WAIT_MS / 1000} s.`);
}

/** The secret of the link in an e-mail. */
export function tokenIn(mail: Pick<ReceivedMail, 'text'>): string {
  const token = /(?:\/invitations\/|#token=)([\w.-]+)/.exec(mail.text ?? '')?.[1];
  if (!token) throw new Error(`There is no token in:\n${mail.text}`);
  return token;
}
