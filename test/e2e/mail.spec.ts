import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Mail } from '../../src/core/mail/mail-content.js';
import { MailService } from '../../src/core/mail/mail.service.js';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { mailFolder } from '../setup/mail-folder.js';
import { type MailServer, startMailServer, tokenIn } from '../setup/mail-server.js';

const FROM = 'Enclave <enclave@sender.example>';

let app: TestApplication;
let server: MailServer;

beforeAll(async () => {
  server = await startMailServer({ user: 'enclave', pass: 'the password of the mail server' });
  app = await startTestApplication({
    SMTP_URL: server.url,
    PUBLIC_URL: 'https://enclave.example/',
    MAIL_FROM: FROM,
  });
});
afterAll(async () => {
  await app?.close();
  await server?.close();
});

const database = () => app.application.nest.get(PlatformDatabase, { strict: false });
const send = (mail: Mail) =>
  database().run(tx => app.application.nest.get(MailService, { strict: false }).send(tx, mail));
const invitation = (to: string, tenantId: string | null, data: object = {}): Mail => ({
  to,
  tenantId,
  template: 'invitation',
  data: {
    tenantName: 'Acme',
    inviter: 'Ada',
    roles: ['editor'],
    message: null,
    token: 'a-token-of-the-tests',
    expiresAt: '2026-12-01T00:00:00.000Z',
    ...data,
  },
});
/** The newest job that sends an e-mail. */
const lastJob = async () => {
  const [job] = await database().run<Array<{ status: string; error_code: string | null; payload: unknown }>>(
    tx =>
      tx.query(`SELECT status, error_code, payload FROM jobs WHERE kind = 'mail' ORDER BY id DESC LIMIT 1`),
  );
  return job!;
};

describe('e-mails', () => {
  it('reach a mail server that asks for credentials, in text and HTML', async () => {
    const user = await app.createUser();
    await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: user.email }));
    const mail = await server.waitFor(user.email);
    expect(mail).toMatchObject({
      from: { name: 'Enclave', address: 'enclave@sender.example' },
      to: [{ address: user.email }],
      subject: 'Choose a new password',
      messageId: expect.stringMatching(/^<[0-9a-f-]{36}@sender\.example>$/),
    });
    expect(mail.text).toContain(`https://enclave.example/reset-password#token=${tokenIn(mail)}`);
    expect(mail.html).toContain(tokenIn(mail));
    expect(mail.html).toContain('lang="en"');
  });

  it('bear the branding of their tenant, as it is when they are sent', async () => {
    const tenant = await app.createTenant('acme');
    const branding = {
      company_name: 'Acme & Sons',
      primary_color: '#007bff',
      logo_url: 'https://assets.example.com/logo.png',
    };
    await database().run(tx =>
      tx.query('UPDATE tenants SET branding = $1 WHERE id = $2', [JSON.stringify(branding), tenant.id]),
    );
    await send(invitation('branded@example.com', tenant.id));
    const mail = await server.waitFor('branded@example.com');
    expect(mail.subject).toBe('Ada invites you to Acme');
    expect(mail.text).toContain('https://enclave.example/invitations/a-token-of-the-tests');
    expect(mail.text).toContain('-- \nAcme & Sons');
    expect(mail.html).toContain('Acme &amp; Sons');
    expect(mail.html).toContain('background:#007bff');
    expect(mail.html).toContain('src="https://assets.example.com/logo.png"');
  });

  it('say what people call themselves, and do nothing of what it says', async () => {
    const hostile = '<img src=x onerror=alert(1)>"\r\nBcc: eve@example.com';
    await send(
      invitation('hostile@example.com', null, { tenantName: hostile, inviter: hostile, message: hostile }),
    );
    const mail = await server.waitFor('hostile@example.com');
    expect(mail.html).not.toContain('<img');
    expect(mail.html).toContain('&lt;img src=x onerror=alert(1)&gt;&quot;');
    expect(mail.bcc ?? []).toEqual([]);
    expect(mail.recipients).toEqual(['hostile@example.com']);
    expect(mail.subject).toContain('<img src=x onerror=alert(1)>" Bcc: eve@example.com');
    const everybody = (await server.messages()).flatMap(({ recipients }) => recipients);
    expect(everybody).not.toContain('eve@example.com');
  });

  it('are tried again when the server is busy', async () => {
    const before = server.attempts;
    server.failNext({ status: 451, at: 'recipient' }, { status: 452, at: 'data' });
    await send(invitation('later@example.com', null));
    const mail = await server.waitFor('later@example.com');
    expect(server.attempts - before).toBe(3);
    expect(mail.messageId).toMatch(/@sender\.example>$/);
    await expect.poll(async () => (await lastJob()).status).toBe('succeeded');
  });

  it('are given up when the server will not have them, and leave no token behind', async () => {
    const before = server.attempts;
    server.failNext({ status: 550, at: 'recipient' });
    await send(invitation('nowhere@example.com', null));
    await expect.poll(lastJob, { timeout: 10_000 }).toMatchObject({
      status: 'failed',
      error_code: 'mail_refused',
      payload: null,
    });
    expect(server.attempts - before).toBe(1);
  });

  it('are given up where the address is none', async () => {
    await send(invitation('nobody at all', null));
    await expect
      .poll(lastJob, { timeout: 10_000 })
      .toMatchObject({ status: 'failed', error_code: 'mail_refused' });
  });

  it('are not sent when what they are about is rolled back', async () => {
    const mail = invitation('undone@example.com', null);
    const undone = database().run(async tx => {
      await app.application.nest.get(MailService, { strict: false }).send(tx, mail);
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    await send(invitation('after@example.com', null));
    await server.waitFor('after@example.com');
    const everybody = (await server.messages()).flatMap(({ recipients }) => recipients);
    expect(everybody).not.toContain('undone@example.com');
  });
});

describe('without a mail server', () => {
  it('e-mails are files in the data folder', async () => {
    await app.restart({ SMTP_URL: '', PUBLIC_URL: '' });
    const user = await app.createUser();
    await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: user.email }));
    const mail = await mailFolder(app.env.dataDir).waitFor(user.email);
    expect(mail.subject).toBe('Choose a new password');
    expect(mail.text).toContain(`http://127.0.0.1:${app.env.port}/reset-password#token=${tokenIn(mail)}`);
    expect(readdirSync(join(app.env.dataDir, 'mail')).every(name => name.endsWith('.eml'))).toBe(true);
  });
});
