import { describe, expect, it } from 'vitest';
import type { MailContent } from './mail-content.js';
import { baseUrlOf } from './mail-job.service.js';
import { INSTALLATION, toBranding, toHtml, toText } from './mail-layout.js';
import { writeLetter } from './mail-letter.js';

const BASE = 'https://enclave.example';
const TOKEN = 'Zm9yIHRlc3RzIG9ubHksIG5vdCBhIHNlY3JldCBhdCBhbGw';
const invitation = (data: object = {}): MailContent => ({
  template: 'invitation',
  data: {
    tenantName: 'Acme',
    inviter: 'Ada Lovelace',
    roles: ['editor', 'viewer'],
    message: null,
    token: TOKEN,
    expiresAt: '2026-11-28T12:00:00.000Z',
    ...data,
  },
});
const written = (mail: MailContent, branding = INSTALLATION) => {
  const letter = writeLetter(mail, BASE);
  return { subject: letter.subject, text: toText(letter, branding), html: toHtml(letter, branding) };
};

describe('an e-mail', () => {
  const all: MailContent[] = [
    invitation({ message: 'Join us.' }),
    { template: 'welcome', data: { tenantName: 'Acme', roles: ['viewer'], token: TOKEN } },
    { template: 'welcome', data: { tenantName: 'Acme', roles: ['viewer'], token: null } },
    { template: 'account-created', data: { token: TOKEN } },
    { template: 'account-created', data: { token: null } },
    { template: 'password-reset', data: { token: TOKEN, expiresAt: '2026-11-28T12:00:00.000Z' } },
    { template: 'password-changed', data: {} },
    {
      template: 'webhook-disabled',
      data: { tenantName: 'Acme', destination: 'https://hooks.example.com', reason: 'failing' },
    },
    {
      template: 'alert',
      data: {
        tenantName: 'Acme',
        title: 'Members reached 90 % of the limit',
        paragraphs: ['There are 9 of 10.'],
        at: '2026-11-28T12:00:00.000Z',
      },
    },
  ];

  it.each(all.map(mail => [mail.template, mail] as const))('%s says the same in text and HTML', (_, mail) => {
    const { subject, text, html } = written(mail);
    expect(subject.length).toBeGreaterThan(5);
    const token = 'token' in mail.data ? mail.data.token : null;
    for (const part of [text, html]) {
      expect(part).not.toMatch(/undefined|null|\[object/);
      expect(part.split(TOKEN).length - 1).toBe(token ? 2 : 0);
    }
  });

  it('names who invites, to what, as what, and until when', () => {
    const { subject, text } = written(invitation({ message: 'Come in.\nWe have cake.' }));
    expect(subject).toBe('Ada Lovelace invites you to Acme');
    expect(text).toContain('as editor and viewer');
    expect(text).toContain('> Come in.\n> We have cake.');
    expect(text).toContain(`${BASE}/invitations/${TOKEN}`);
    expect(text).toContain('28 November 2026');
  });

  it('carries a token that sets a password where no server sees it', () => {
    const { text } = written({
      template: 'password-reset',
      data: { token: TOKEN, expiresAt: '2026-11-28T12:00:00Z' },
    });
    expect(text).toContain(`${BASE}/reset-password#token=${TOKEN}`);
  });
});

describe('what people have written', () => {
  const hostile = `<script>alert("1")</script>' onerror='&lt;`;

  it('is text in HTML, wherever it stands', () => {
    const mail = invitation({ tenantName: hostile, inviter: hostile, message: hostile, roles: [hostile] });
    const { html } = written(mail, toBranding(hostile, { company_name: hostile }));
    expect(html).not.toMatch(/<script/i);
    expect(html).not.toContain(`' onerror='`);
    expect(html).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39; onerror=&#39;&amp;lt;');
  });

  it('breaks no line, turns no direction and has an end', () => {
    const { subject, text } = written(
      invitation({ tenantName: 'Acme\r\nBcc: eve@example.com\u202e\u0000', inviter: 'A'.repeat(5_000) }),
    );
    // oxlint-disable-next-line no-control-regex -- it is these that must not come through
    expect(subject).not.toMatch(/[\u0000-\u001f\u202e]/);
    expect(subject.length).toBeLessThan(450);
    expect(text).not.toMatch(/^Bcc:/m);
  });

  it('stays a quotation, line by line', () => {
    const { text } = written(invitation({ message: 'One\r\nTwo\rThree\u2028Four\nSee the invitation:' }));
    expect(text).toContain('> One\n> Two\n> Three Four\n> See the invitation:');
  });
});

describe('branding', () => {
  it('is the tenant’s', () => {
    const branding = toBranding('Acme', {
      company_name: 'Acme Corporation',
      primary_color: '#FFCC00',
      logo_url: 'https://assets.example.com/logo.png?a=1&b=2',
    });
    const { html, text } = written(invitation(), branding);
    expect(text).toContain('-- \nAcme Corporation');
    expect(html).toContain('src="https://assets.example.com/logo.png?a=1&amp;b=2" alt="Acme Corporation"');
    // Black on bright yellow.
    expect(html).toContain('background:#FFCC00;color:#000000');
  });

  it('is the name of the tenant where it has none', () => {
    expect(toBranding('Acme', {})).toEqual({ ...INSTALLATION, companyName: 'Acme' });
    expect(toBranding('Acme', null)).toEqual({ ...INSTALLATION, companyName: 'Acme' });
    expect(written(invitation(), toBranding('Acme', {})).html).toContain('color:#ffffff');
  });

  it.each([
    { primary_color: 'red;background:url(https://evil.example)' },
    { primary_color: '#12345' },
    { primary_color: 7 },
    { logo_url: 'http://plain.example/logo.png' },
    { logo_url: 'javascript:alert(1)' },
    { logo_url: 'data:image/svg+xml,<svg/>' },
    { logo_url: ['https://a.example'] },
    { company_name: { a: 1 } },
  ])('is left out where it is something else: %j', stored => {
    expect(toBranding('Acme', stored)).toEqual({ ...INSTALLATION, companyName: 'Acme' });
  });
});

describe('links', () => {
  it.each([
    [{ publicUrl: 'https://a.example/b', host: '0.0.0.0', port: 1 }, 'https://a.example/b'],
    [{ publicUrl: null, host: '127.0.0.1', port: 3000 }, 'http://127.0.0.1:3000'],
    [{ publicUrl: null, host: '0.0.0.0', port: 80 }, 'http://localhost:80'],
    [{ publicUrl: null, host: '::1', port: 80 }, 'http://[::1]:80'],
  ])('of %j begin with %s', (env, expected) => expect(baseUrlOf(env)).toBe(expected));
});
