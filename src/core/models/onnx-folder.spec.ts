import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TinyOnnxModel, writeTinyOnnxModel } from '../../../test/setup/tiny-onnx-model.js';
import { SettingsError } from '../../foundation/config/env.js';
import { readOnnxFolder } from './onnx-folder.js';

describe('readOnnxFolder', () => {
  let parent: string;
  let folder: string;
  const write = (model: Partial<TinyOnnxModel> = {}) =>
    writeTinyOnnxModel(folder, { words: { shock: [1, 0], wave: [0, 1] }, ...model });
  const read = async (files: Record<string, unknown> = {}) => {
    await write({ files });
    return readOnnxFolder(folder);
  };
  const refusal = async () => {
    const error = await readOnnxFolder(folder).then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(SettingsError);
    return (error as SettingsError).message;
  };

  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), 'enclave-onnx-'));
    folder = join(parent, 'tiny model');
  });
  afterEach(() => rm(parent, { recursive: true }));

  it('takes what transformers.js takes, and the mean where nothing is said of pooling', async () => {
    await expect(read()).resolves.toEqual({
      name: expect.stringMatching(/^onnx\/tiny_model@[\da-f]{12}$/),
      folder,
      dtype: 'fp32',
      pooling: 'mean',
      maxTokens: 512,
      prompts: { query: '', document: '' },
      layersAfterPooling: [],
    });
  });

  it('prefers the model that is not quantized', async () => {
    await write({ file: 'model_quantized.onnx' });
    await expect(readOnnxFolder(folder)).resolves.toMatchObject({ dtype: 'q8' });
    await write();
    await expect(readOnnxFolder(folder)).resolves.toMatchObject({ dtype: 'fp32' });
  });

  describe('gives another name to', () => {
    it.each<[string, Record<string, unknown>]>([
      ['another model file', { 'onnx/model.onnx': 'other bytes' }],
      ['other weights beside it', { 'onnx/model.onnx_data': 'weights' }],
      ['another tokenizer', { 'tokenizer.json': { model: { type: 'WordPiece', vocab: {} } } }],
      ['another pooling', { '1_Pooling/config.json': { pooling_mode_cls_token: true } }],
      ['other prompts', { 'config_sentence_transformers.json': { prompts: { query: 'query: ' } } }],
      ['fewer tokens', { 'sentence_bert_config.json': { max_seq_length: 128 } }],
    ])('%s', async (_, files) => {
      const { name } = await read();
      const other = await read(files);
      expect(other.name).not.toBe(name);
      expect((await readOnnxFolder(folder)).name).toBe(other.name);
    });
  });

  it('does not read the files of another variant', async () => {
    const { name } = await read();
    expect((await read({ 'onnx/model_q4.onnx': 'another variant', 'README.md': 'text' })).name).toBe(name);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['a flag each', { pooling_mode_mean_tokens: false, pooling_mode_cls_token: true }, 'first'],
    ['the last token', { pooling_mode_lasttoken: true, include_prompt: true }, 'last'],
    ['the mean', { pooling_mode_mean_tokens: true, pooling_mode_max_tokens: false }, 'mean'],
    ['a mean that is scaled', { pooling_mode_mean_sqrt_len_tokens: true }, 'mean'],
    ['one word', { pooling_mode: 'cls' }, 'first'],
    ['no mode at all', { word_embedding_dimension: 2 }, 'mean'],
  ])('reads pooling: %s', async (_, config, pooling) => {
    await expect(read({ '1_Pooling/config.json': config })).resolves.toMatchObject({ pooling });
  });

  it.each<[string, Record<string, unknown>, { query: string; document: string }]>([
    [
      'E5',
      { prompts: { query: 'query: ', passage: 'passage: ' } },
      { query: 'query: ', document: 'passage: ' },
    ],
    ['of questions alone', { prompts: { query: 'Find: ' } }, { query: 'Find: ', document: '' }],
    [
      'a default',
      { prompts: { all: 'text: ', clustering: 'cluster: ' }, default_prompt_name: 'all' },
      { query: 'text: ', document: 'text: ' },
    ],
    [
      'document before passage',
      { prompts: { document: 'd: ', passage: 'p: ' }, default_prompt_name: null },
      { query: '', document: 'd: ' },
    ],
    ['none', { __version__: {} }, { query: '', document: '' }],
  ])('reads prompts: %s', async (_, config, prompts) => {
    await expect(read({ 'config_sentence_transformers.json': config })).resolves.toMatchObject({ prompts });
  });

  it.each<[string, Record<string, unknown>, number]>([
    ['sentence-transformers cuts earlier', { 'sentence_bert_config.json': { max_seq_length: 256 } }, 256],
    ['a tokenizer without a limit', { 'tokenizer_config.json': { model_max_length: 1e30 } }, 512],
    ['the positions of the model', { 'config.json': { max_position_embeddings: 128 } }, 128],
    [
      'positions that are not a text’s',
      {
        'config.json': { model_type: 'xlm-roberta', max_position_embeddings: 514, pad_token_id: 1 },
        'tokenizer_config.json': {},
      },
      512,
    ],
    ['nothing', { 'config.json': {}, 'tokenizer_config.json': {} }, 512],
  ])('finds how many tokens the model sees: %s', async (_, files, maxTokens) => {
    await expect(read(files)).resolves.toMatchObject({ maxTokens });
  });

  it('tells what comes after pooling', async () => {
    const modules = ['Transformer', 'Pooling', 'Dense', 'Normalize'].map(type => ({
      idx: 0,
      name: '0',
      path: '',
      type: `sentence_transformers.models.${type}`,
    }));
    await expect(read({ 'modules.json': modules })).resolves.toMatchObject({ layersAfterPooling: ['Dense'] });
  });

  describe('refuses', () => {
    it('what is no folder', async () => {
      await expect(refusal()).resolves.toBe(`EMBEDDING_ONNX_PATH must be a folder, and ${folder} is none.`);
      await writeFile(folder, 'a file');
      await expect(refusal()).resolves.toContain('must be a folder');
    });

    it.each<[string, Record<string, unknown>, string]>([
      ['without config.json', { 'config.json': null }, 'there is no config.json'],
      ['without a tokenizer', { 'tokenizer.json': null }, 'there is no tokenizer.json'],
      ['without its settings', { 'tokenizer_config.json': null }, 'there is no tokenizer_config.json'],
      [
        'without a model',
        { 'onnx/model.onnx': null },
        'there is neither onnx/model.onnx nor onnx/model_quantized.onnx',
      ],
      ['half of a file', { 'tokenizer.json': '{"model": {"type"' }, 'tokenizer.json is no JSON'],
      ['another file', { 'tokenizer.json': [] }, 'tokenizer.json is not as it should be'],
      ['a page of errors', { 'config.json': '<html>' }, 'config.json is no JSON'],
      [
        'a pooling that it does not know',
        { '1_Pooling/config.json': { pooling_mode_max_tokens: true } },
        '1_Pooling/config.json says max_tokens, which is not supported',
      ],
      [
        'two poolings side by side',
        { '1_Pooling/config.json': { pooling_mode_cls_token: true, pooling_mode_mean_tokens: true } },
        'says cls_token and mean_tokens, which is not supported',
      ],
      [
        'prompts that are not pooled',
        {
          '1_Pooling/config.json': { pooling_mode_mean_tokens: true, include_prompt: false },
          'config_sentence_transformers.json': { prompts: { query: 'Represent: ' } },
        },
        'left out of pooling',
      ],
    ])('a folder %s', async (_, files, sentence) => {
      await write({ files });
      const message = await refusal();
      expect(message).toContain(sentence);
      expect(message).toContain(`but in ${folder} `);
    });
  });
});
