import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type TinyOnnxModel, writeTinyOnnxModel } from '../../../test/setup/tiny-onnx-model.js';
import { SettingsError } from '../../foundation/config/env.js';
import { openInstallationEmbedding } from './installation-embedding.js';
import { OnnxEmbedding, type OnnxEmbeddingOptions, hasOnnxPackage } from './onnx-embedding.js';

const WORDS = {
  '[CLS]': [1, 0, 0, 0],
  '[SEP]': [0, 0, 0, 2],
  '[UNK]': [0, 0, 0, 1],
  shock: [3, 4, 0, 0],
  wave: [0, 0, 6, 0],
  query: [0, 10, 0, 0],
  passage: [0, 0, 10, 0],
  ':': [0, 0, 0, 0],
};

/** What the model has to say, reckoned by hand: the sum of the tokens' vectors, scaled to length 1. */
const expected = (...tokens: Array<keyof typeof WORDS>) => {
  const sum = [0, 0, 0, 0].map((_, i) => tokens.reduce((total, token) => total + WORDS[token][i]!, 0));
  const length = Math.hypot(...sum);
  return sum.map(value => expect.closeTo(value / length, 6));
};

const folders: string[] = [];
const models: OnnxEmbedding[] = [];

async function folderOf(model: Partial<TinyOnnxModel> = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'enclave-onnx-'));
  folders.push(folder);
  await writeTinyOnnxModel(folder, { words: WORDS, ...model });
  return folder;
}

async function open(model: Partial<TinyOnnxModel> = {}, options?: OnnxEmbeddingOptions) {
  const opened = await OnnxEmbedding.open(await folderOf(model), options);
  models.push(opened);
  return opened;
}

const refusal = async (folder: string) => {
  const error = await OnnxEmbedding.open(folder).then(
    model => {
      models.push(model);
      return null;
    },
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SettingsError);
  return (error as SettingsError).message;
};

afterEach(async () => {
  await Promise.all(models.splice(0).map(model => model.close()));
});
afterAll(async () => {
  await Promise.all(folders.map(folder => rm(folder, { recursive: true })));
});

describe.skipIf(hasOnnxPackage())('OnnxEmbedding without its package', () => {
  it('says how to install it', async () => {
    await expect(refusal(await folderOf())).resolves.toBe(
      'EMBEDDING_ONNX_PATH needs a package that is not installed: npm install --no-save --ignore-scripts @huggingface/transformers@4.3.1',
    );
  });
});

describe.runIf(hasOnnxPackage())('OnnxEmbedding', () => {
  describe('with texts of all kinds', () => {
    let model: OnnxEmbedding;
    beforeAll(async () => {
      model = await OnnxEmbedding.open(await folderOf());
    });
    afterAll(() => model.close());

    it('gives the mean of the tokens’ vectors, of unit length', async () => {
      await expect(model.embedQuery('Shock wave')).resolves.toEqual(
        expected('[CLS]', 'shock', 'wave', '[SEP]'),
      );
      await expect(model.embedQuery('shock shock unheard')).resolves.toEqual(
        expected('[CLS]', 'shock', 'shock', '[UNK]', '[SEP]'),
      );
    });

    it('embeds documents in order, each as it would be alone, and reports progress', async () => {
      const texts = Array.from({ length: 40 }, (_, i) => `${'shock '.repeat(i % 7)}${'wave '.repeat(i % 5)}`);
      const done: number[] = [];
      const vectors = await model.embedDocuments(texts, { onProgress: count => void done.push(count) });
      expect(done.at(-1)).toBe(40);
      expect(vectors).toHaveLength(40);
      for (const i of [0, 3, 17, 39]) expect(vectors[i]).toEqual(await model.embedQuery(texts[i]!));
      await expect(model.embedDocuments([])).resolves.toEqual([]);
    });

    it.each([
      ['nothing', ''],
      ['white space', ' \n '],
      ['half a surrogate pair', '\ud800'],
      ['signs outside of the vocabulary', '漢字😀'],
    ])('has a vector for %s', async (_, text) => {
      const vector = await model.embedQuery(text);
      expect(Math.hypot(...vector)).toBeCloseTo(1, 6);
    });

    it('takes a hostile text no longer than a long one', async () => {
      const started = performance.now();
      await model.embedDocuments(['a'.repeat(5_000_000), 'a '.repeat(2_000_000), 'ﷺ'.repeat(1_000_000)]);
      expect(performance.now() - started).toBeLessThan(5_000);
    });
  });

  it.each<[string, Record<string, unknown>, Array<keyof typeof WORDS>]>([
    ['the first', { pooling_mode_cls_token: true }, ['[CLS]']],
    ['the last', { pooling_mode_lasttoken: true }, ['[SEP]']],
  ])('gives the vector of %s token where the folder says so', async (_, pooling, tokens) => {
    const model = await open({ files: { '1_Pooling/config.json': pooling } });
    await expect(model.embedQuery('shock wave')).resolves.toEqual(expected(...tokens));
  });

  it('takes the vector of the whole text from a model that gives it', async () => {
    const dense = [{ type: 'sentence_transformers.models.Dense' }];
    const model = await open({ output: 'sentence_embedding', files: { 'modules.json': dense } });
    await expect(model.embedQuery('wave')).resolves.toEqual(expected('[CLS]', 'wave', '[SEP]'));
  });

  it('takes a quantized model', async () => {
    const model = await open({ file: 'model_quantized.onnx' });
    await expect(model.embedQuery('wave')).resolves.toEqual(expected('[CLS]', 'wave', '[SEP]'));
  });

  it('puts its prompts before questions and passages', async () => {
    const prompts = { query: 'query: ', passage: 'passage: ' };
    const model = await open({ files: { 'config_sentence_transformers.json': { prompts } } });
    await expect(model.embedQuery('shock')).resolves.toEqual(
      expected('[CLS]', 'query', ':', 'shock', '[SEP]'),
    );
    await expect(model.embedDocuments(['shock'])).resolves.toEqual([
      expected('[CLS]', 'passage', ':', 'shock', '[SEP]'),
    ]);
  });

  it('cuts a text where the model ends, and leaves the model’s own tokens around it', async () => {
    const files = { 'sentence_bert_config.json': { max_seq_length: 4 } };
    const model = await open({ files });
    await expect(model.embedQuery('shock wave wave wave wave')).resolves.toEqual(
      expected('[CLS]', 'shock', 'wave', '[SEP]'),
    );
    await expect(model.embedQuery('shock wave')).resolves.toEqual(
      expected('[CLS]', 'shock', 'wave', '[SEP]'),
    );
  });

  it('says that it has no vector for a text without a direction', async () => {
    const model = await open({ words: { ...WORDS, null: [-1, 0, 0, -2] } });
    await expect(model.embedQuery('null')).rejects.toMatchObject({
      code: 'model_rejected',
      retryable: false,
    });
    await expect(model.embedQuery('wave')).resolves.toHaveLength(4);
  });

  it('drops what waits when the caller aborts, and keeps its thread', async () => {
    const model = await open();
    const controller = new AbortController();
    let done = 0;
    const ingestion = model.embedDocuments(
      Array.from({ length: 2_000 }, () => 'shock wave'),
      {
        signal: controller.signal,
        onProgress: () => {
          if (++done === 3) controller.abort(new Error('cancelled'));
        },
      },
    );
    await expect(ingestion).rejects.toThrow('cancelled');
    await expect(model.embedQuery('wave')).resolves.toHaveLength(4);
    expect(done).toBe(3);
    expect(model.loadedThreads).toBe(1);
    await expect(model.embedQuery('never', { signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow(
      'gone',
    );
    await expect(model.isUp()).resolves.toBe(true);
  });

  it('gives its memory back when it is idle, and loads the model again', async () => {
    const model = await open({}, { idleTimeout: 200 });
    const before = await model.embedQuery('wave');
    await vi.waitFor(() => expect(model.loadedThreads).toBe(0), { timeout: 10_000 });
    await expect(model.embedQuery('wave')).resolves.toEqual(before);
    // Once more: a native library may end with its first thread.
    await vi.waitFor(() => expect(model.loadedThreads).toBe(0), { timeout: 10_000 });
    await expect(model.embedQuery('wave')).resolves.toEqual(before);
  });

  it('does not put vectors of another file under the name of the one that it started with', async () => {
    const folder = await folderOf();
    const model = await OnnxEmbedding.open(folder, { idleTimeout: 200 });
    models.push(model);
    await vi.waitFor(() => expect(model.loadedThreads).toBe(0), { timeout: 10_000 });
    await writeTinyOnnxModel(folder, { words: { ...WORDS, wave: [1, 1, 1, 1] } });
    await expect(model.embedQuery('wave')).rejects.toMatchObject({ code: 'model_unavailable' });
    const other = await OnnxEmbedding.open(folder);
    models.push(other);
    expect(other.name).not.toBe(model.name);
  });

  it('fails what comes after it was closed', async () => {
    const model = await open();
    const calls = Promise.allSettled(
      Array.from({ length: 20 }, () => model.embedDocuments(['shock', 'wave'])),
    );
    await model.close();
    for (const call of await calls)
      if (call.status === 'rejected') expect(call.reason).toMatchObject({ code: 'model_unavailable' });
    await expect(model.embedQuery('wave')).rejects.toMatchObject({ code: 'model_unavailable' });
    await expect(model.isUp()).resolves.toBe(false);
    expect(model.loadedThreads).toBe(0);
  });

  it('is what the installation’s settings name', async () => {
    const folder = await folderOf();
    const model = (await openInstallationEmbedding({
      embedding: null,
      embeddingFolder: folder,
    })) as OnnxEmbedding;
    models.push(model);
    expect(model).toBeInstanceOf(OnnxEmbedding);
    expect(model.name).toMatch(/^onnx\/enclave-onnx-\w+@[\da-f]{12}$/);
  });

  describe('stops the start for', () => {
    it.each<[string, Partial<TinyOnnxModel>, RegExp]>([
      ['half of a model', { files: { 'onnx/model.onnx': '\x08\x08half' } }, /the model cannot be used: /],
      ['an empty one', { files: { 'onnx/model.onnx': '' } }, /the model cannot be used: /],
      [
        'a tokenizer of another model',
        { files: { 'tokenizer.json': { model: { type: 'Nothing' } } } },
        /the model cannot be used: /,
      ],
      [
        'a model without what comes after pooling',
        { files: { 'modules.json': [{ type: 'sentence_transformers.models.Dense' }] } },
        /lacks what comes after pooling: Dense/,
      ],
      [
        'weights that are not there, and downloads nothing',
        { files: { 'config.json': { 'transformers.js_config': { use_external_data_format: true } } } },
        /not found locally/,
      ],
    ])('%s', async (_, model, sentence) => {
      const folder = await folderOf(model);
      const message = await refusal(folder);
      expect(message).toMatch(sentence);
      expect(message).toContain(folder);
    });
  });
});
