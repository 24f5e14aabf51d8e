import { Logger } from '@nestjs/common';
import { mkdtempSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { v7 as uuidv7 } from 'uuid';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mailFolder } from '../../../test/setup/mail-folder.js';
import { FolderTransport } from './folder-transport.js';

Logger.overrideLogger(false);

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'enclave-mail-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const deliver = (id = uuidv7(), subject = 'Hello') =>
  new FolderTransport({ dataDir, mail: { smtpUrl: null, from: 'enclave@localhost' } }).deliver({
    id,
    to: 'ada@example.com',
    subject,
    text: 'A text.',
    html: '<p>A text.</p>',
  });
const names = () => readdirSync(join(dataDir, 'mail'));

describe('FolderTransport', () => {
  it('writes an e-mail that mail programs can read, for nobody else on the machine', async () => {
    const id = uuidv7();
    await deliver(id);
    expect(await mailFolder(dataDir).messages()).toMatchObject([
      {
        messageId: `<${id}@localhost>`,
        recipients: ['ada@example.com'],
        subject: 'Hello',
        text: 'A text.\n',
        html: '<p>A text.</p>\n',
      },
    ]);
    expect(statSync(join(dataDir, 'mail')).mode & 0o777).toBe(0o700);
    expect(statSync(join(dataDir, 'mail', `${id}.eml`)).mode & 0o777).toBe(0o600);
  });

  it('writes the same e-mail once, and leaves nothing half written', async () => {
    const id = uuidv7();
    await Promise.all([deliver(id), deliver(id), deliver(id)]);
    expect(names()).toEqual([`${id}.eml`]);
  });

  it('keeps the newest thousand', async () => {
    mkdirSync(join(dataDir, 'mail'));
    const old = Array.from({ length: 1_005 }, () => uuidv7());
    for (const id of old) writeFileSync(join(dataDir, 'mail', `${id}.eml`), '');
    const id = uuidv7();
    await deliver(id);
    expect(names()).toHaveLength(1_000);
    expect(names()).toContain(`${id}.eml`);
    expect(names()).not.toContain(`${old[0]}.eml`);
  });
});
