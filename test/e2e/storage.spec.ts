import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { readdirSync, renameSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { StorageSweepService } from '../../src/features/data-lifecycle/storage-sweep.service.js';
import { FileStorage } from '../../src/foundation/storage/file-storage.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { uploadOf } from '../setup/files.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { type S3Server, startS3Server } from '../setup/s3-server.js';

/** Where originals are kept, and how somebody else gets at them. */
interface Place {
  env: Record<string, string>;
  fileOf(app: TestApplication, key: string): string;
  /** Files on their way in. */
  incoming(app: TestApplication): string;
  breakDown(app: TestApplication): Promise<void>;
  mend(app: TestApplication): Promise<void>;
  close(): Promise<void>;
}

const filesOf = (app: TestApplication) => join(app.env.dataDir, 'files');

const local = async (): Promise<Place> => ({
  env: {},
  fileOf: (app, key) => join(filesOf(app), key),
  incoming: app => join(filesOf(app), '.incoming'),
  async breakDown(app) {
    renameSync(filesOf(app), `${filesOf(app)}-away`);
    writeFileSync(filesOf(app), 'not a folder');
  },
  async mend(app) {
    rmSync(filesOf(app));
    renameSync(`${filesOf(app)}-away`, filesOf(app));
  },
  close: async () => undefined,
});

const s3 = async (): Promise<Place> => {
  const server: S3Server = await startS3Server();
  return {
    env: server.env,
    fileOf: (_app, key) => server.fileOf(key),
    incoming: app => join(app.env.dataDir, 'incoming'),
    breakDown: () => server.stop(),
    mend: () => server.start(),
    close: () => server.close(),
  };
};

describe.each([
  ['a local folder', local],
  ['a bucket', s3],
])('originals in %s', (_name, prepare) => {
  let place: Place;
  let model: ModelServer;
  let app: TestApplication;
  let tenantId: string;
  let kbId: string;
  const words = Array.from({ length: 4_000 }, (_, i) => `Frame ${i} keeps its color for years.`);
  const content = Buffer.from(words.join('\n'));
  const sha256 = createHash('sha256').update(content).digest('hex');
  const etag = `"${sha256}"`;

  beforeAll(async () => {
    place = await prepare();
    model = await startModelServer();
    app = await startTestApplication({
      ...place.env,
      EMBEDDING_BASE_URL: model.url,
      EMBEDDING_MODEL: 'stub',
    });
    ({ id: tenantId, kbId } = await app.createTenant('acme'));
  });
  afterAll(async () => {
    await app?.close();
    await place?.close();
    await model?.close();
  });

  const storage = () => app.application.nest.get(FileStorage, { strict: false });
  const keys = async (prefix: string) => {
    const found: string[] = [];
    for await (const { key } of storage().list(prefix)) found.push(key);
    return found;
  };
  const keyOf = async (hash: string) =>
    (await keys(tenantId)).find(key => key.includes(`/${hash}-`)) as string;
  const upload = (bytes: Buffer, name = `${randomUUID()}.txt`) =>
    app.admin.post('/tenants/acme/kbs/docs/documents', uploadOf([[bytes, name]]));
  const add = async (bytes: Buffer, name?: string): Promise<string> =>
    (await expectStatus(202, upload(bytes, name))).body.items[0].id;
  const url = (id: string) => `/tenants/acme/kbs/docs/documents/${id}/content`;
  const download = (id: string, headers: Record<string, string> = {}, method = 'GET') =>
    fetch(`${app.admin.url}/api/v1${url(id)}`, {
      method,
      headers: { authorization: `Bearer ${app.admin.token}`, ...headers },
    });
  const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer());
  const sweep = async () => {
    const started = await expectStatus(202, app.admin.post('/platform/storage/sweep'));
    return app.jobEnded(started.headers.get('location') as string);
  };

  describe('a download', () => {
    let id: string;
    beforeAll(async () => {
      id = await add(content, 'frames.txt');
      expect((await app.settled('acme', id)).status).toBe('ready');
    });

    it('is the original, byte by byte', async () => {
      const response = await download(id);
      expect(response.status).toBe(200);
      expect((await bytesOf(response)).equals(content)).toBe(true);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        etag,
        'accept-ranges': 'bytes',
        'content-length': String(content.length),
        'content-disposition': "attachment; filename*=UTF-8''frames.txt",
        'x-content-type-options': 'nosniff',
      });
    });

    it('may be a part of it', async () => {
      for (const [range, start, end] of [
        ['bytes=0-9', 0, 10],
        ['bytes=70000-', 70_000, content.length],
        ['bytes=-100', content.length - 100, content.length],
        ['bytes=0-', 0, content.length],
      ] as const) {
        const response = await download(id, { range, 'if-range': etag });
        expect(response.status).toBe(206);
        expect(response.headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/${content.length}`);
        expect(response.headers.get('content-length')).toBe(String(end - start));
        expect((await bytesOf(response)).equals(content.subarray(start, end))).toBe(true);
      }
      const changed = await download(id, { range: 'bytes=0-9', 'if-range': '"another"' });
      expect(changed.status).toBe(200);
      expect((await bytesOf(changed)).equals(content)).toBe(true);
    });

    it('is refused where there is no such part, version or document', async () => {
      const beyond = await app.admin.withHeaders({ range: `bytes=${content.length}-` }).get(url(id));
      expectProblem(beyond, 416, 'range_not_satisfiable');
      expect(beyond.headers.get('content-range')).toBe(`bytes */${content.length}`);
      expectProblem(await app.admin.get(`${url(id)}?version=2`), 404, 'not_found');
      expectProblem(await app.admin.get(`${url(id)}?version=x`), 422, 'validation_failed');
      expectProblem(await app.admin.get(url(randomUUID())), 404, 'not_found');
      expect((await app.admin.get(`${url(id)}?version=1`)).status).toBe(200);
    });

    it('is not sent where nobody wants it', async () => {
      const known = await download(id, { 'if-none-match': etag });
      expect(known.status).toBe(304);
      expect(await bytesOf(known)).toHaveLength(0);
      const head = await download(id, {}, 'HEAD');
      expect(head.status).toBe(200);
      expect(head.headers.get('content-length')).toBe(String(content.length));
      expect(head.headers.get('etag')).toBe(etag);
    });

    it('ends before its end where the original is damaged', async () => {
      const path = place.fileOf(app, await keyOf(sha256));
      const changed = Buffer.from(content);
      changed.write('f', 0);
      writeFileSync(path, changed);
      await expect(download(id).then(bytesOf)).rejects.toThrow('terminated');
      const cut = await download(id, { range: 'bytes=0-9' });
      expect(String(await bytesOf(cut))).toBe('frame 0 ke');
      truncateSync(path, content.length - 1);
      const lacking = await app.admin.withHeaders({ range: 'bytes=-100' }).get(url(id));
      expectProblem(lacking, 500, 'content_damaged');
      writeFileSync(path, content);
      expect((await bytesOf(await download(id))).equals(content)).toBe(true);
    });

    it('is a problem where all of it arrives at once, or nothing is there', async () => {
      const small = await add(Buffer.from('A small file.'));
      await app.settled('acme', small);
      const path = place.fileOf(app, await keyOf(createHash('sha256').update('A small file.').digest('hex')));
      writeFileSync(path, 'A small file!');
      expectProblem(await app.admin.get(url(small)), 500, 'content_damaged');
      rmSync(path);
      expectProblem(await app.admin.get(url(small)), 404, 'not_found');
      expect((await download(small, {}, 'HEAD')).status).toBe(404);
    });
  });

  describe('the sweep', () => {
    const orphan = Buffer.from('nobody knows of this');
    const name = () => `${createHash('sha256').update(orphan).digest('hex')}-${randomUUID()}`;
    const put = async (key: string) => (await storage().receive(Readable.from([orphan]))).keep(key);
    const age = (key: string, minutes: number) => {
      const then = new Date(Date.now() - minutes * 60_000);
      utimesSync(place.fileOf(app, key), then, then);
    };

    it('deletes what belongs to nobody once it is old enough, and counts what is lost', async () => {
      const here = `${tenantId}/${kbId}/${name()}`;
      const gone = `${randomUUID()}/${randomUUID()}/${name()}`;
      const young = `${tenantId}/${kbId}/${name()}`;
      const others = 'backups/notes.txt';
      for (const key of [here, gone, young, others]) await put(key);
      const known = await keyOf(sha256);
      for (const key of [here, gone, others, known]) age(key, 61);
      age(young, 59);

      const job = await sweep();
      // The small file that the downloads have lost.
      expect(job).toMatchObject({
        status: 'succeeded',
        result: { checked: 4, deleted: 2, bytes: 2 * orphan.length, missing: 1 },
      });
      const left = await keys('');
      expect(left).toEqual(expect.arrayContaining([known, young, others]));
      expect(left).not.toContain(here);
      expect(left).not.toContain(gone);

      const service = app.application.nest.get(StorageSweepService, { strict: false });
      expect(await service.sweep({ olderThanMinutes: 0 })).toMatchObject({ checked: 2, deleted: 1 });
      expect(await keys(tenantId)).toEqual([known]);
    });

    it('leaves the files of another database alone until it is told that they are its own', async () => {
      const key = `${randomUUID()}/${randomUUID()}/${name()}`;
      await put(key);
      age(key, 61);
      await (await storage().receive(Readable.from([Buffer.from('another')]))).keep('.installation');
      expect(await sweep()).toMatchObject({ status: 'failed', error: { code: 'foreign_storage' } });
      expect(await keys('')).toContain(key);
      const service = app.application.nest.get(StorageSweepService, { strict: false });
      expect(await service.sweep({ adopt: true })).toMatchObject({ deleted: 1 });
      expect((await sweep()).status).toBe('succeeded');
    });

    it('is for the platform alone', async () => {
      const owner = await app.createMember('acme', 'owner');
      expectProblem(await owner.client.post('/platform/storage/sweep'), 403, 'forbidden');
    });
  });

  it('of an upload are stored whole or not at all where the storage is away', async () => {
    const list = async () => (await app.admin.get('/tenants/acme/kbs/docs/documents')).body.total;
    const before = await list();
    const stored = await keys('');
    await place.breakDown(app);
    try {
      for (const refused of [
        await upload(randomBytes(100_000), 'new.txt').then(() => upload(Buffer.from('Another text.'))),
        await app.admin.post('/tenants/acme/kbs/docs/documents/text', { text: 'Another text.' }),
      ]) {
        expectProblem(refused, 503, 'storage_unavailable');
        expect(refused.headers.get('retry-after')).toBe('5');
      }
      expect((await app.anonymous.get('/health/ready')).status).toBe(503);
    } finally {
      await place.mend(app);
    }
    expect(readdirSync(place.incoming(app))).toEqual([]);
    expect(await list()).toBe(before);
    expect((await keys('')).toSorted()).toEqual(stored.toSorted());
    expect((await app.settled('acme', await add(Buffer.from('Another text.')))).status).toBe('ready');
  });

  it('are waited for by an ingestion while the storage is away', async () => {
    const path = `/tenants/acme/kbs/docs/documents/${await add(Buffer.from('A text that is read twice.'))}`;
    const id = path.split('/').at(-1) as string;
    await app.settled('acme', id);
    await place.breakDown(app);
    try {
      await expectStatus(202, app.admin.post(`${path}/reindex`));
      const failedOnce = async () => (await app.admin.get(path)).body;
      await expect.poll(failedOnce, { timeout: 20_000 }).toMatchObject({
        status: 'queued',
        attempts: 1,
        error: { code: 'storage_unavailable' },
      });
    } finally {
      await place.mend(app);
    }
    expect(await app.settled('acme', id)).toMatchObject({ status: 'ready', error: null });
  });

  it('go with their document, their knowledge base and their tenant', async () => {
    const id = await add(Buffer.from('A text to be deleted.'));
    await app.settled('acme', id);
    const before = (await keys(tenantId)).length;
    await expectStatus(204, app.admin.delete(`/tenants/acme/kbs/docs/documents/${id}`));
    expect(await keys(tenantId)).toHaveLength(before - 1);

    const other = (await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: 'Other' }))).body;
    await expectStatus(202, app.admin.post('/tenants/acme/kbs/other/documents/text', { text: 'Some text.' }));
    expect(await keys(`${tenantId}/${other.id}`)).toHaveLength(1);
    await expectStatus(204, app.admin.delete('/tenants/acme/kbs/other'));
    expect(await keys(`${tenantId}/${other.id}`)).toEqual([]);
    expect(await keys(tenantId)).toHaveLength(before - 1);

    const deleted = await expectStatus(204, app.admin.delete('/tenants/acme'));
    expect((await app.jobEnded(deleted.headers.get('location') as string)).status).toBe('succeeded');
    expect(await keys(tenantId)).toEqual([]);
  });
});
