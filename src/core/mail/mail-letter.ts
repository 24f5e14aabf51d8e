import type { MailContent } from './mail-content.js';

/** What an e-mail says, before it has become text and HTML. Nothing in it is escaped. */
export interface Letter {
  subject: string;
  paragraphs: string[];
  /** What somebody else wrote; may have several lines. */
  quote?: string;
  /** The one thing to do. */
  link?: { label: string; url: string };
  /** For whoever uses the API instead of the link. */
  token?: string;
  /** In small print. */
  notes: string[];
}

const LONGEST_NAME = 200;
const LONGEST_QUOTE = 2_000;
const DAYS_TO_CHOOSE = 7;

/** What ends a line, and what turns the direction of those that follow: a name must not look like the rest of the letter. */
// oxlint-disable-next-line no-control-regex -- it is these that must not come through
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+/g;

/** @param baseUrl where people reach this installation, without a slash at its end */
export function writeLetter(mail: MailContent, baseUrl: string): Letter {
  switch (mail.template) {
    case 'invitation': {
      const { inviter, tenantName, roles, message, token, expiresAt } = mail.data;
      return {
        subject: `${oneLine(inviter)} invites you to ${oneLine(tenantName)}`,
        paragraphs: [`${oneLine(inviter)} invites you to join ${oneLine(tenantName)} as ${listOf(roles)}.`],
        ...(message && { quote: someLines(message) }),
        link: { label: 'See the invitation', url: `${baseUrl}/invitations/${encodeURIComponent(token)}` },
        token,
        notes: [
          `The invitation is open until ${moment(expiresAt)}.`,
          'If you did not expect it, you can ignore this e-mail.',
        ],
      };
    }
    case 'welcome': {
      const { tenantName, roles, token } = mail.data;
      return {
        subject: `Welcome to ${oneLine(tenantName)}`,
        paragraphs: [`You are now a member of ${oneLine(tenantName)}, as ${listOf(roles)}.`],
        ...firstPassword(token, baseUrl),
      };
    }
    case 'account-created':
      return {
        subject: 'Your new account',
        paragraphs: ['An account was made for you with this e-mail address.'],
        ...firstPassword(mail.data.token, baseUrl),
      };
    case 'password-reset': {
      const { token, expiresAt } = mail.data;
      return {
        subject: 'Choose a new password',
        paragraphs: ['Somebody, hopefully you, has asked for a new password for your account.'],
        link: { label: 'Choose a password', url: passwordUrl(token, baseUrl) },
        token,
        notes: [
          `The link is good once, until ${moment(expiresAt)}.`,
          'If it was not you, you can ignore this e-mail: your password stays as it is.',
        ],
      };
    }
    case 'webhook-disabled': {
      const { tenantName, destination, reason } = mail.data;
      return {
        subject: `A webhook of ${oneLine(tenantName)} was switched off`,
        paragraphs: [
          `The webhook of ${oneLine(tenantName)} to ${oneLine(destination)} was switched off, because ${
            reason === 'gone'
              ? 'its receiver answered that it is gone (410).'
              : 'its receiver has not taken a message for days.'
          }`,
          'Nothing is sent to it until somebody switches it on again.',
        ],
        notes: ['The log of its deliveries says how each attempt ended.'],
      };
    }
    case 'password-changed':
      return {
        subject: 'Your password was changed',
        paragraphs: [
          'The password of your account was changed, and your sessions elsewhere have ended.',
          'If it was not you, ask for a new password at once, and tell whoever runs this installation.',
        ],
        notes: [],
      };
    case 'alert': {
      const { tenantName, title, paragraphs, at } = mail.data;
      return {
        subject: `${oneLine(tenantName)}: ${oneLine(title)}`,
        paragraphs: paragraphs.map(oneLine),
        notes: [`This was so on ${moment(at)}.`],
      };
    }
  }
}

/** On one line, and no longer than a name is. */
export const oneLine = (text: string): string =>
  text.replace(INVISIBLE, ' ').replace(/\s+/g, ' ').trim().slice(0, LONGEST_NAME);

const someLines = (text: string): string =>
  text
    .slice(0, LONGEST_QUOTE)
    .split(/\r\n|\r|\n/)
    .map(line => line.replace(INVISIBLE, ' ').trimEnd())
    .join('\n')
    .trim();

function firstPassword(token: string | null, baseUrl: string): Pick<Letter, 'link' | 'token' | 'notes'> {
  if (!token) {
    return {
      link: { label: 'Sign in', url: baseUrl },
      notes: ['You sign in with the password that you have already.'],
    };
  }
  return {
    link: { label: 'Choose a password', url: passwordUrl(token, baseUrl) },
    token,
    notes: [`The link is good once, for ${DAYS_TO_CHOOSE} days. After that, ask for a new password.`],
  };
}

/** In the fragment, which browsers send to no server and no log keeps. */
export const passwordUrl = (token: string, baseUrl: string): string =>
  `${baseUrl}/reset-password#token=${encodeURIComponent(token)}`;

const listOf = (roles: readonly string[]): string =>
  new Intl.ListFormat('en', { type: 'conjunction' }).format(roles.map(oneLine));

const moment = (time: string): string =>
  `${new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' }).format(new Date(time))} UTC`;
