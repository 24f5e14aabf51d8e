import { Injectable } from '@nestjs/common';
import { createTransport } from 'nodemailer';
import { InjectEnv } from '../config/config.module.js';
import type { Env } from '../config/env.js';
import { toMessage } from './mail-message.js';
import { MailRefusedError, MailTransport, type OutgoingMail } from './mail-transport.js';

/** Milliseconds for one e-mail, from the connection to the server's last word. */
const MOST_TIME = 60_000;
const TIMEOUTS = {
  dnsTimeout: 10_000,
  connectionTimeout: 10_000,
  greetingTimeout: 10_000,
  /** Of silence. */
  socketTimeout: 20_000,
  socketCloseTimeout: 1_000,
};

interface SmtpError {
  code?: string;
  /** What the server answered, RFC 5321, 4.2. */
  responseCode?: number;
}

/** E-mails through a mail server. */
@Injectable()
export class SmtpTransport extends MailTransport {
  private readonly transporter;

  constructor(@InjectEnv() private readonly env: Pick<Env, 'mail'>) {
    super();
    this.transporter = createTransport({ ...TIMEOUTS, url: env.mail.smtpUrl ?? undefined });
  }

  async deliver(mail: OutgoingMail, signal: AbortSignal): Promise<void> {
    const within = AbortSignal.any([signal, AbortSignal.timeout(MOST_TIME)]);
    try {
      await this.transporter.sendMail({ ...toMessage(mail, this.env.mail.from), signal: within });
    } catch (error) {
      throw explain(error as SmtpError);
    }
  }
}

/** In words of its own: what servers and libraries say may repeat addresses, names and credentials. */
function explain({ code = 'unknown', responseCode }: SmtpError): Error {
  const what = responseCode === undefined ? code : `${code}, answer ${responseCode}`;
  // Anything else that is wrong, with the connection or the credentials, is mended by whoever runs the server or this.
  const aboutThisMail = code === 'EENVELOPE' || code === 'EMESSAGE';
  if (!aboutThisMail || (responseCode !== undefined && !isPermanent(responseCode))) {
    return new Error(`The mail server did not take it (${what}).`);
  }
  return new MailRefusedError(`The mail server does not take it (${what}).`);
}

/** RFC 5321, 4.2.1; 530 (RFC 4954) asks for credentials, 503 for another order of commands. */
const isPermanent = (responseCode: number): boolean =>
  responseCode >= 500 && responseCode !== 503 && responseCode !== 530;
