import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type MailServer, startMailServer } from '../../../test/setup/mail-server.js';
import { MailRefusedError, type OutgoingMail } from './mail-transport.js';
import { SmtpTransport } from './smtp-transport.js';

let server: MailServer;
beforeEach(async () => {
  server = await startMailServer();
});
afterEach(() => server.close());

const transport = (smtpUrl = server.url) =>
  new SmtpTransport({ mail: { smtpUrl, from: 'Enclave <enclave@sender.example>' } });
const deliver = (
  fields: Partial<OutgoingMail> = {},
  { url, signal }: { url?: string; signal?: AbortSignal } = {},
) =>
  transport(url).deliver(
    {
      id: 'an-id',
      to: 'ada@example.com',
      subject: 'Hello',
      text: 'A text.',
      html: '<p>A text.</p>',
      ...fields,
    },
    signal ?? new AbortController().signal,
  );

describe('SmtpTransport', () => {
  it('sends text and HTML, under an id that stays', async () => {
    await deliver();
    await deliver();
    const [mail, again] = await server.messages();
    expect(mail).toMatchObject({
      messageId: '<an-id@sender.example>',
      from: { name: 'Enclave', address: 'enclave@sender.example' },
      recipients: ['ada@example.com'],
      subject: 'Hello',
      text: 'A text.\n',
      html: '<p>A text.</p>\n',
    });
    expect(again?.messageId).toBe(mail?.messageId);
    expect(mail?.headers).toContainEqual(
      expect.objectContaining({ key: 'auto-submitted', value: 'auto-generated' }),
    );
  });

  it('writes no header that a subject or an address pretends to end', async () => {
    await deliver({ subject: 'Hello\r\nBcc: eve@example.com\r\n\r\nAnother body\u2028' });
    const [mail] = await server.messages();
    expect(mail?.subject).toBe('Hello Bcc: eve@example.com Another body');
    expect(mail?.bcc ?? []).toEqual([]);
    expect(mail?.recipients).toEqual(['ada@example.com']);
    expect(mail?.text).toBe('A text.\n');
  });

  it('sends to one address, whatever stands in it', async () => {
    for (const to of ['ada@example.com, eve@example.com', 'ada@example.com\r\nBcc: eve@example.com']) {
      await deliver({ to }).catch(() => undefined);
    }
    const recipients = (await server.messages()).flatMap(mail => mail.recipients);
    expect(recipients.filter(address => address.startsWith('eve@'))).toEqual([]);
  });

  it.each([
    { status: 550, at: 'recipient' as const },
    { status: 554, at: 'data' as const },
  ])('is refused for good with $status for the $at', async fault => {
    server.failNext(fault);
    await expect(deliver()).rejects.toBeInstanceOf(MailRefusedError);
  });

  it.each([
    { status: 451, at: 'recipient' as const },
    { status: 421, at: 'recipient' as const },
    { status: 452, at: 'data' as const },
    { status: 530, at: 'recipient' as const },
  ])('may try again after $status for the $at', async fault => {
    server.failNext(fault);
    const error = await deliver().catch((thrown: Error) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(MailRefusedError);
    await deliver();
    expect(await server.messages()).toHaveLength(1);
  });

  it('gives up on a server that says nothing, when it is told to', async () => {
    server.failNext({ hang: true });
    await expect(deliver({}, { signal: AbortSignal.timeout(300) })).rejects.not.toBeInstanceOf(
      MailRefusedError,
    );
    expect(await server.messages()).toEqual([]);
  });

  it('may try again where nobody listens', async () => {
    const nobody = createServer().listen(0, '127.0.0.1');
    await once(nobody, 'listening');
    const { port } = nobody.address() as AddressInfo;
    await new Promise(resolve => nobody.close(resolve));
    await expect(deliver({}, { url: `smtp://127.0.0.1:${port}` })).rejects.toThrow(/ECONNECTION|ESOCKET/);
  });

  it('signs in, and says nothing of the credentials when they are wrong', async () => {
    const closed = await startMailServer({ user: 'enclave', pass: 'a secret/of:the server' });
    try {
      await deliver({}, { url: closed.url });
      expect(await closed.messages()).toHaveLength(1);
      const wrong = closed.url.replace(encodeURIComponent('a secret/of:the server'), 'another-secret');
      const error = (await deliver({}, { url: wrong }).catch((thrown: Error) => thrown)) as Error;
      expect(error.message).toMatch(/EAUTH/);
      expect(error).not.toBeInstanceOf(MailRefusedError);
      expect(`${error.stack}`).not.toContain('secret');
    } finally {
      await closed.close();
    }
  });
});
