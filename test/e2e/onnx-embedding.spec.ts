import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasOnnxPackage } from '../../src/core/models/onnx-embedding.js';
import { SettingsError } from '../../src/foundation/config/env.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { expectProblem } from '../setup/problem.js';
import { writeTinyOnnxModel } from '../setup/tiny-onnx-model.js';

/** Words of one meaning have one vector, in whatever language. */
const WORDS = {
  '[CLS]': [0, 0, 0, 0.1],
  '[SEP]': [0, 0, 0, 0.1],
  frame: [1, 0, 0, 0],
  rahmen: [1, 0, 0, 0],
  battery: [0, 1, 0, 0],
  akku: [0, 1, 0, 0],
};
const KB = '/tenants/acme/kbs/docs';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'enclave-onnx-'));
});
afterAll(() => rm(folder, { recursive: true }));

const start = (path: string) =>
  startTestApplication({ EMBEDDING_BASE_URL: '', EMBEDDING_ONNX_PATH: path, LARGE_KB_CHUNKS: '100' });

describe('a folder without a model', () => {
  it('stops the start', async () => {
    const missing = join(folder, 'nowhere');
    await expect(start(missing)).rejects.toThrow(
      `EMBEDDING_ONNX_PATH must be a folder, and ${missing} is none.`,
    );
    const empty = start(folder);
    await expect(empty).rejects.toBeInstanceOf(SettingsError);
    await expect(empty).rejects.toThrow(`but in ${folder} there is no config.json`);
  });
});

describe.runIf(hasOnnxPackage())('an embedding model of the installation’s own, in a folder', () => {
  let app: TestApplication;
  const search = (query: string) => app.admin.post(`${KB}/search`, { query, mode: 'vector' });

  beforeAll(async () => {
    await writeTinyOnnxModel(join(folder, 'tiny'), { words: WORDS });
    app = await start(join(folder, 'tiny'));
    await app.createTenant('acme');
    for (const text of ['The frame.', 'The battery.'])
      expect(await app.addText('acme', text)).toMatchObject({ status: 'ready' });
  });
  afterAll(() => app?.close());

  it('makes the vectors of documents and questions', async () => {
    const kb = (await expectStatus(200, app.admin.get(KB))).body;
    expect(kb.embedding_model).toMatch(/^onnx\/tiny@[\da-f]{12}$/);
    const { passages } = (await expectStatus(200, search('Akku'))).body;
    expect(passages[0].text).toBe('The battery.');
    expect((await expectStatus(200, search('Rahmen'))).body.passages[0].text).toBe('The frame.');
    const defaults = (await expectStatus(200, app.admin.get('/tenants/acme/models/defaults'))).body;
    expect(defaults.embedding.effective).toBe(kb.embedding_model);
    const health = await app.anonymous.get('/health');
    expect(JSON.stringify(health.body)).not.toContain('down');
  });

  it('is another one with another file, until the documents have its vectors', async () => {
    await writeTinyOnnxModel(join(folder, 'other', 'tiny'), { words: { ...WORDS, akku: [1, 0, 0, 0] } });
    await app.restart({ EMBEDDING_ONNX_PATH: join(folder, 'other', 'tiny') });
    expectProblem(await search('Akku'), 409, 'embedding_model_changed');
    const { headers } = await expectStatus(202, app.admin.post(`${KB}/reindex`));
    await app.jobEnded(headers.get('location') as string);
    expect((await expectStatus(200, search('Akku'))).body.passages[0].text).toBe('The frame.');
  });
});
