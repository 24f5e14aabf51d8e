import type { OutgoingMail } from './mail-transport.js';

/** Characters that end a line or pretend to: in a header they would begin another one. */
// oxlint-disable-next-line no-control-regex -- it is these that must not come through
const BREAKS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

/** The same e-mail for every transport, as nodemailer takes it. */
export function toMessage(mail: OutgoingMail, from: string) {
  const domain = /@([A-Za-z0-9.-]+)>?\s*$/.exec(from)?.[1] ?? 'localhost';
  return {
    from,
    // As an object it is one address, whatever stands in it; a string would be taken for a list.
    to: { name: '', address: mail.to },
    subject: mail.subject.replace(BREAKS, ' ').trim(),
    text: mail.text,
    html: mail.html,
    messageId: `<${mail.id}@${domain}>`,
    // RFC 3834: nobody's holiday notice answers.
    headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}
