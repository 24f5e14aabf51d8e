import { Logger } from '@nestjs/common';
import { AbortMultipartUploadCommand, ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  type MockInstance,
  vi,
} from 'vitest';
import { type S3Server, startS3Server } from '../../../test/setup/s3-server.js';
import { FileDamagedError, FileMissingError, type FileStorage, type StoredFile } from './file-storage.js';
import { LocalStorage } from './local-storage.js';
import { S3Storage } from './s3-storage.js';
import { StorageUnavailableError } from './storage-unavailable.js';

/** What the tests need to know of a storage besides what it does. */
interface Place {
  storage: FileStorage;
  /** Files that have arrived and were not kept, and copies that were not released. */
  incoming: string;
  fileOf(key: string): string;
  copy(from: string, to: string): void;
  /** Its settings as an argument of a process, where it has any. */
  s3: string[];
  /** The same storage where nothing works. */
  broken: FileStorage;
}

let dataDir: string;
let server: S3Server;
let logged: MockInstance;
let warn: MockInstance;
beforeAll(async () => {
  server = await startS3Server();
});
afterAll(() => server.close());
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'enclave-storage-'));
  warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  logged = vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const PLACES: Record<string, () => Place> = {
  LocalStorage: () => {
    writeFileSync(join(dataDir, 'a file'), '');
    return {
      storage: new LocalStorage(dataDir),
      incoming: join(dataDir, 'files', '.incoming'),
      fileOf: key => join(dataDir, 'files', key),
      copy: (from, to) => cpSync(join(dataDir, 'files', from), join(dataDir, 'files', to)),
      s3: [],
      broken: new LocalStorage(join(dataDir, 'a file')),
    };
  },
  S3Storage: () => ({
    storage: new S3Storage(dataDir, server.settings),
    incoming: join(dataDir, 'incoming'),
    fileOf: key => server.fileOf(key),
    copy: (from, to) => server.copy(from, to),
    s3: [JSON.stringify(server.settings)],
    broken: new S3Storage(dataDir, {
      ...server.settings,
      credentials: { accessKeyId: 'AKIAUNKNOWN', secretAccessKey: 'a secret that is wrong' },
    }),
  }),
};

const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex');
const content = randomBytes(150_000);

const MEGABYTE = 1024 * 1024;
const STORAGE_MEMORY = join(import.meta.dirname, '../../../test/setup/storage-memory.ts');

describe('uploads to S3 in parts', () => {
  const originals = (name: string) =>
    `${'0'.repeat(8)}-0000-7000-8000-${'0'.repeat(12)}/${'1'.repeat(8)}-0000-7000-8000-${'1'.repeat(12)}/${name}`;
  const key = originals(`${'a'.repeat(64)}-${'2'.repeat(8)}-0000-7000-8000-${'2'.repeat(12)}`);
  const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000);
  let sent: MockInstance;
  beforeEach(() => {
    sent = vi.spyOn(S3Client.prototype, 'send');
  });
  afterEach(() => sent.mockRestore());

  it('are ended after a day, where they are originals', async () => {
    const pages = [
      {
        IsTruncated: true,
        NextKeyMarker: key,
        NextUploadIdMarker: 'old',
        Uploads: [
          { Key: key, UploadId: 'old', Initiated: hoursAgo(25) },
          { Key: key, UploadId: 'young', Initiated: hoursAgo(23) },
          { Key: 'backup/of-somebody-else', UploadId: 'foreign', Initiated: hoursAgo(250) },
        ],
      },
      { IsTruncated: false, Uploads: [{ Key: key, UploadId: 'older', Initiated: hoursAgo(48) }] },
    ];
    const aborted: unknown[] = [];
    sent.mockImplementation((command: unknown) => {
      if (command instanceof AbortMultipartUploadCommand) aborted.push(command.input.UploadId);
      return command instanceof ListMultipartUploadsCommand
        ? pages[command.input.UploadIdMarker === 'old' ? 1 : 0]
        : {};
    });
    await new S3Storage(dataDir, server.settings).removeLeftovers();
    expect(aborted).toEqual(['old', 'older']);
  });

  it.each(['NotImplemented', 'AccessDenied'])('may be a secret of the server: %s', async name => {
    sent.mockImplementation(() => {
      throw Object.assign(new Error('AKIA'), { name });
    });
    await new S3Storage(dataDir, server.settings).removeLeftovers();
    const warned = warn.mock.calls.map(([message]) => String(message));
    expect(warned).toEqual(name === 'NotImplemented' ? [] : [expect.stringMatching(/: AccessDenied$/)]);
  });
});

describe.each(Object.entries(PLACES))('%s', (_, open) => {
  let place: Place;
  let storage: FileStorage;
  beforeEach(() => {
    place = open();
    storage = place.storage;
  });
  afterEach(async () => {
    for (const prefix of ['a', 'ab', 'many']) await storage.deleteAll(prefix);
  });

  const receive = (...chunks: Buffer[]) => storage.receive(Readable.from(chunks));
  const store = async (key: string, bytes: Buffer = Buffer.from(key)) => (await receive(bytes)).keep(key);
  const incoming = () => readdirSync(place.incoming);
  const list = async (prefix: string) => {
    const files: StoredFile[] = [];
    for await (const file of storage.list(prefix)) files.push(file);
    return files.toSorted((a, b) => a.key.localeCompare(b.key));
  };

  it('tells size, SHA-256 and the first 64 kB of what it takes in, however it is cut', async () => {
    const file = await receive(
      content.subarray(0, 10),
      content.subarray(10, 70_000),
      content.subarray(70_000),
    );
    expect(file.sizeBytes).toBe(150_000);
    expect(file.sha256).toBe(sha256(content));
    expect(file.head.equals(content.subarray(0, 64 * 1024))).toBe(true);
    await file.keep('a/b/c');
    expect((await storage.read('a/b/c')).equals(content)).toBe(true);
    expect((await buffer(await storage.open('a/b/c'))).equals(content)).toBe(true);
    expect(incoming()).toEqual([]);
  });

  it('takes in an empty file', async () => {
    const file = await receive();
    expect(file).toMatchObject({ sizeBytes: 0, sha256: sha256(Buffer.alloc(0)) });
    expect(file.head).toHaveLength(0);
    await file.keep('a/empty');
    expect(await storage.read('a/empty')).toHaveLength(0);
  });

  it('replaces what stands under a key', async () => {
    await store('a/b', Buffer.from('old'));
    await store('a/b', Buffer.from('new'));
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
    const breaks = Readable.from(
      (async function* () {
        yield Buffer.from('the beginning');
        throw new Error('the client went away');
      })(),
    );
    await expect(storage.receive(breaks)).rejects.toThrow('the client went away');
    expect(incoming()).toEqual([]);
  });

  it('opens a part of a file', async () => {
    await store('a/b', content);
    const part = async (start: number, end: number) => buffer(await storage.open('a/b', { start, end }));
    expect((await part(0, 9)).equals(content.subarray(0, 10))).toBe(true);
    expect((await part(70_000, 139_999)).equals(content.subarray(70_000, 140_000))).toBe(true);
    expect((await part(149_000, 149_999)).equals(content.subarray(149_000))).toBe(true);
  });

  it('gives parsers a file, which is gone from where it lay when they are done', async () => {
    await store('a/b', content);
    const copy = await storage.localCopy('a/b', sha256(content));
    expect(copy.sizeBytes).toBe(150_000);
    expect((await readFile(copy.path)).equals(content)).toBe(true);
    await copy.release();
    expect(incoming()).toEqual([]);
    expect(await storage.has('a/b')).toBe(true);
  });

  it.each([
    ['changed', (path: string) => writeFileSync(path, randomBytes(150_000))],
    ['cut off', (path: string) => truncateSync(path, 149_999)],
  ])('gives nobody a file that was %s', async (_what, damage) => {
    await store('a/b', content);
    damage(place.fileOf('a/b'));
    await expect(storage.localCopy('a/b', sha256(content))).rejects.toBeInstanceOf(FileDamagedError);
    expect(incoming()).toEqual([]);
  });

  it('says what is missing, and deletes what is not there without complaint', async () => {
    for (const attempt of [
      () => storage.read('a/missing'),
      () => storage.open('a/missing'),
      () => storage.open('a/missing', { start: 0, end: 1 }),
      () => storage.localCopy('a/missing', sha256(content)),
    ]) {
      await expect(attempt()).rejects.toBeInstanceOf(FileMissingError);
    }
    expect(await storage.has('a/missing')).toBe(false);
    await storage.delete('a/missing');
    await storage.deleteAll('missing');
    expect(await list('missing')).toEqual([]);
  });

  it('lists and deletes one key, or all below a prefix and nothing beside it', async () => {
    for (const key of ['a/1', 'a/b/2', 'ab/3']) await store(key);
    expect(await list('a')).toMatchObject([
      { key: 'a/1', sizeBytes: 3 },
      { key: 'a/b/2', sizeBytes: 5 },
    ]);
    const [file] = await list('ab');
    expect(Math.abs(Date.now() - (file as StoredFile).modifiedAt.getTime())).toBeLessThan(60_000);
    expect((await list('')).map(({ key }) => key)).toEqual(['a/1', 'a/b/2', 'ab/3']);
    await storage.delete('a/1');
    expect(await storage.has('a/1')).toBe(false);
    await storage.deleteAll('a');
    expect(await list('')).toMatchObject([{ key: 'ab/3' }]);
  });

  it('lists and deletes more than one page of files', async () => {
    const keys = Array.from({ length: 1_100 }, (_each, i) => `many/${i % 7}/${String(i).padStart(4, '0')}`);
    await store('many/first');
    for (const key of keys) place.copy('many/first', key);
    await storage.delete('many/first');
    expect((await list('many')).map(({ key }) => key)).toEqual(keys.toSorted());
    await storage.deleteAll('many');
    expect(await list('many')).toEqual([]);
  });

  it('stores from several sides at once, while others delete beside it', async () => {
    const files = Array.from({ length: 8 }, () => randomBytes(100_000));
    await Promise.all(
      files.map(async (file, i) => {
        await store(`a/b/${i}`, file);
        await store(`a/b${i}/c`);
        await storage.delete(`a/b${i}/c`);
        if (i % 2 === 0) await storage.delete(`a/b/${i}`);
      }),
    );
    expect((await list('a')).map(({ key }) => key)).toEqual(['a/b/1', 'a/b/3', 'a/b/5', 'a/b/7']);
    for (const i of [1, 3, 5, 7])
      expect((await storage.read(`a/b/${i}`)).equals(files[i] as Buffer)).toBe(true);
  });

  it('holds little of a large file in memory', async () => {
    const size = 128 * MEGABYTE;
    // In a process of its own, which holds nothing else and where nothing else is collected.
    const child = fork(STORAGE_MEMORY, [dataDir, String(size), ...place.s3], {
      execArgv: ['--expose-gc', '--no-warnings', '--import', 'tsx'],
    });
    const ended = once(child, 'exit');
    const [held] = await Promise.race([once(child, 'message'), ended]);
    expect(held).toMatchObject({ sizeBytes: size });
    expect(held.received).toBeLessThan(8 * MEGABYTE);
    // Two parts of 8 MB, twice each, and what is read ahead.
    expect(held.kept).toBeLessThan(48 * MEGABYTE);
    expect(held.copied).toBeLessThan(8 * MEGABYTE);
    expect(await ended).toEqual([0, null]);
  });

  it('removes what nobody has kept for a day', async () => {
    await receive(Buffer.from('young'));
    await receive(Buffer.from('old'));
    const [old] = incoming() as [string];
    const yesterday = new Date(Date.now() - 25 * 3_600_000);
    utimesSync(join(place.incoming, old), yesterday, yesterday);
    await storage.removeLeftovers();
    expect(incoming()).toHaveLength(1);
    expect(incoming()).not.toContain(old);
  });

  it('says that it is unavailable where it is, tells nobody more, and keeps nothing', async () => {
    const attempts = [
      () => place.broken.open('a/b'),
      () => place.broken.read('a/b'),
      () => place.broken.has('a/b'),
      async () => {
        for await (const file of place.broken.list('')) expect(file).toBeUndefined();
      },
      () => place.broken.delete('a/b'),
      () => place.broken.deleteAll('a'),
      async () => (await place.broken.receive(Readable.from([content]))).keep('a/b'),
    ];
    for (const attempt of attempts) {
      const error = await attempt().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(StorageUnavailableError);
      expect(error).toMatchObject({ status: 503, options: { headers: { 'retry-after': '5' } } });
      expect(JSON.stringify(error)).not.toMatch(/AKIA|secret/);
    }
    expect(JSON.stringify(logged.mock.calls)).not.toMatch(/AKIA|secret/);
    await place.broken.forget(['a/b']);
    await place.broken.forgetAll('a');
    expect(await place.broken.isHealthy()).toBe(false);
    expect(existsSync(place.incoming) ? incoming() : []).toEqual([]);
  });

  it('is healthy while files can be written', async () => {
    expect(await storage.isHealthy()).toBe(true);
  });
});
