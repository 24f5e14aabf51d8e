import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileMissingError } from './file-storage.js';
import { LocalStorage } from './local-storage.js';

let dataDir: string;
let storage: LocalStorage;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'enclave-storage-'));
  storage = new LocalStorage({ dataDir });
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const receive = (...chunks: Buffer[]) => storage.receive(Readable.from(chunks));
const incoming = () => readdirSync(join(dataDir, 'files', '.incoming'));

describe('LocalStorage', () => {
  it('tells size, SHA-256 and the first 64 kB of what it takes in, however it is cut', async () => {
    const content = randomBytes(150_000);
    const file = await receive(
      content.subarray(0, 10),
      content.subarray(10, 70_000),
      content.subarray(70_000),
    );
    expect(file.sizeBytes).toBe(150_000);
    expect(file.sha256).toBe(createHash('sha256').update(content).digest('hex'));
    expect(file.head.equals(content.subarray(0, 64 * 1024))).toBe(true);
    await file.keep('a/b/c');
    expect((await storage.read('a/b/c')).equals(content)).toBe(true);
    expect((await buffer(await storage.open('a/b/c'))).equals(content)).toBe(true);
    expect(incoming()).toEqual([]);
  });

  it('takes in an empty file', async () => {
    const file = await receive();
    expect(file).toMatchObject({ sizeBytes: 0, sha256: createHash('sha256').digest('hex') });
    expect(file.head).toHaveLength(0);
  });

  it('replaces what stands under a key', async () => {
    await (await receive(Buffer.from('old'))).keep('a/b');
    await (await receive(Buffer.from('new'))).keep('a/b');
    expect(String(await storage.read('a/b'))).toBe('new');
  });

  it('leaves nothing of what is discarded, and lets what was kept stand', async () => {
    await (await receive(Buffer.from('unwanted'))).discard();
    expect(incoming()).toEqual([]);
    const kept = await receive(Buffer.from('wanted'));
    await kept.keep('a/b');
    await kept.discard();
    expect(String(await storage.read('a/b'))).toBe('wanted');
  });

  it('leaves nothing of a stream that breaks', async () => {
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from('the beginning');
        throw new Error('the client went away');
      })(),
    );
    await expect(storage.receive(broken)).rejects.toThrow('the client went away');
    expect(incoming()).toEqual([]);
  });

  it('says what is missing, and deletes what is not there without complaint', async () => {
    await expect(storage.read('a/missing')).rejects.toBeInstanceOf(FileMissingError);
    await expect(storage.open('a/missing')).rejects.toBeInstanceOf(FileMissingError);
    await storage.delete('a/missing');
    await storage.deleteAll('missing');
  });

  it('deletes one key, or all below a prefix and nothing beside it', async () => {
    for (const key of ['a/1', 'a/b/2', 'ab/3']) await (await receive(Buffer.from(key))).keep(key);
    await storage.delete('a/1');
    await expect(storage.read('a/1')).rejects.toBeInstanceOf(FileMissingError);
    await storage.deleteAll('a');
    await expect(storage.read('a/b/2')).rejects.toBeInstanceOf(FileMissingError);
    expect(String(await storage.read('ab/3'))).toBe('ab/3');
  });

  it.each(['../secret', 'a/../../secret', '/etc/passwd', '', '.', 'a/..'])(
    'refuses the key %j',
    async key => {
      writeFileSync(join(dataDir, 'secret'), 'keep out');
      const file = await receive(Buffer.from('x'));
      for (const attempt of [
        () => storage.read(key),
        () => storage.open(key),
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

  it('is healthy while its folder can be written', async () => {
    expect(await storage.isHealthy()).toBe(true);
    writeFileSync(join(dataDir, 'a file'), '');
    expect(await new LocalStorage({ dataDir: join(dataDir, 'a file') }).isHealthy()).toBe(false);
  });
});
