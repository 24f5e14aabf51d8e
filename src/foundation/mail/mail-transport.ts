/** An e-mail, ready to be sent. */
export interface OutgoingMail {
  /** Of the cause: whoever gets the same e-mail twice can tell by it. A file name, too. */
  id: string;
  /** One address. */
  to: string;
  subject: string;
  text: string;
  html: string;
}

/** The mail server has said no, and will say it again. */
export class MailRefusedError extends Error {
  override readonly name = 'MailRefusedError';
}

/** Takes e-mails away: to a mail server, or into a folder. */
export abstract class MailTransport {
  /**
   * @param signal gives up; whether the e-mail has gone out by then is not known
   * @throws MailRefusedError, or another error where a later attempt may succeed
   */
  abstract deliver(mail: OutgoingMail, signal: AbortSignal): Promise<void>;
}
