import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LocalStorage } from './local-storage.js';

let dataDir: string;
let storage: LocalStorage;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'enclave-storage-'));
  storage = new LocalStorage(dataDir);
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const receive = (text: string) => storage.receive(Readable.from([Buffer.from(text)]));

describe('LocalStorage', () => {
  it.each(['../secret', 'a/../../secret', '/etc/passwd', '', '.', 'a/..'])(
    'refuses the key %j',
    async key => {
      writeFileSync(join(dataDir, 'secret'), 'keep out');
      const file = await receive('x');
      for (const attempt of [
        () => storage.read(key),
        () => storage.open(key),
        () => storage.has(key),
        () => storage.delete(key),
        () => storage.deleteAll(key),
        () => file.keep(key),
      ]) {
        await expect((async () => attempt())()).rejects.toThrow(/leaves the folder/);
      }
      expect(existsSync(join(dataDir, 'secret'))).toBe(true);
      expect(existsSync(join(dataDir, 'files'))).toBe(true);
    },
  );

  it('removes the folders that are empty with the last file in them', async () => {
    await (await receive('1')).keep('tenant/kb/1');
    await (await receive('2')).keep('tenant/kb2/2');
    await storage.delete('tenant/kb/1');
    expect(readdirSync(join(dataDir, 'files', 'tenant'))).toEqual(['kb2']);
    await storage.delete('tenant/kb2/2');
    expect(readdirSync(join(dataDir, 'files'))).toEqual(['.incoming']);
  });

  it('makes a folder again that somebody removes while a file moves into it', async () => {
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        await (await receive(String(i))).keep(`tenant/kb/${i}`);
        await storage.delete(`tenant/kb/${i}`);
      }),
    );
    expect(readdirSync(join(dataDir, 'files'))).toEqual(['.incoming']);
  });

  it('stores one key from several sides at once whole', async () => {
    const versions = ['a', 'b', 'c', 'd'].map(letter => letter.repeat(100_000));
    await Promise.all(versions.map(async version => (await receive(version)).keep('a/b')));
    expect(versions).toContain(String(await storage.read('a/b')));
  });

  it('takes a file for as old as its place', async () => {
    const file = await receive('x');
    const [name] = readdirSync(join(dataDir, 'files', '.incoming')) as [string];
    const hourAgo = new Date(Date.now() - 3_600_000);
    utimesSync(join(dataDir, 'files', '.incoming', name), hourAgo, hourAgo);
    await file.keep('a/b');
    expect(Date.now() - statSync(join(dataDir, 'files', 'a/b')).mtimeMs).toBeLessThan(60_000);
  });
});
