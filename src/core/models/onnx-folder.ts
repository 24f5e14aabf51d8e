import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { SettingsError } from '../../foundation/config/env.js';

/** How the vectors of a text's tokens become one: their mean, the first or the last. */
export type Pooling = 'mean' | 'first' | 'last';

/** An embedding model as its folder describes it. */
export interface OnnxModel {
  /** Of its vectors: `onnx/<folder>@<hash>`. The hash is of all that they depend on, so another file is another model. */
  name: string;
  folder: string;
  /** Which of the model’s files: `onnx/model.onnx` (fp32) or `onnx/model_quantized.onnx` (q8). */
  dtype: 'fp32' | 'q8';
  pooling: Pooling;
  /** Tokens of a text, those that stand around it included, that the model sees. */
  maxTokens: number;
  /** What stands before a question and before a passage; empty for most models. */
  prompts: { query: string; document: string };
  /** What sentence-transformers does after pooling, and only a model file that gives whole vectors has done already. */
  layersAfterPooling: string[];
}

/** Of BERT, where a folder says nothing. */
const USUAL_MAX_TOKENS = 512;

/** Files that transformers.js reads, the better one first. */
const MODEL_FILES = { fp32: 'model.onnx', q8: 'model_quantized.onnx' } as const;

/** Models of which the first positions are not a text's: those up to its padding token's id. */
const ROBERTA = /^(xlm-)?roberta|^camembert|^mpnet$/;

const config = z.object({
  model_type: z.string().optional(),
  max_position_embeddings: z.number().nullish(),
  pad_token_id: z.number().nullish(),
});

const tokenizerConfig = z.object({ model_max_length: z.number().nullish() });

/** The library takes anything for a tokenizer, and fails with the first text. */
const tokenizer = z.object({ model: z.looseObject({}) });

const sentenceBertConfig = z.object({ max_seq_length: z.number().nullish() });

const sentenceTransformersConfig = z.object({
  prompts: z.record(z.string(), z.string()).default({}),
  default_prompt_name: z.string().nullish(),
});

const poolingConfig = z.looseObject({
  include_prompt: z.boolean().default(true),
  /** Instead of one flag each. */
  pooling_mode: z.string().optional(),
});

const modules = z.array(z.object({ type: z.string() }));

const POOLINGS: Record<string, Pooling> = {
  mean_tokens: 'mean',
  mean: 'mean',
  // The mean times a number, which unit length takes away again.
  mean_sqrt_len_tokens: 'mean',
  cls_token: 'first',
  cls: 'first',
  lasttoken: 'last',
};

/**
 * Reads what a folder says of its model. The layout is transformers.js’; what is said of pooling, prompts and lengths is
 * read from the files that sentence-transformers keeps beside it, where they are there.
 *
 * Sources: https://huggingface.co/docs/transformers.js, https://sbert.net/docs/package_reference/sentence_transformer
 *
 * @param folder absolute path
 * @throws SettingsError
 */
export async function readOnnxFolder(folder: string): Promise<OnnxModel> {
  const files = new ModelFolder(folder);
  await files.requireFolder();
  const model = await files.required('config.json', config);
  const ofTokenizer = await files.required('tokenizer_config.json', tokenizerConfig);
  await files.required('tokenizer.json', tokenizer);
  const ofSentences = await files.optional('sentence_bert_config.json', sentenceBertConfig);
  const ofPooling = await files.optional('1_Pooling/config.json', poolingConfig);
  const ofPrompts = await files.optional('config_sentence_transformers.json', sentenceTransformersConfig);
  const layers = (await files.optional('modules.json', modules)) ?? [];
  const { dtype, parts } = await files.modelFiles();

  const prompts = promptsOf(ofPrompts);
  if (ofPooling?.include_prompt === false && (prompts.query || prompts.document))
    throw files.unusable('its prompts are left out of pooling (include_prompt), which is not supported');
  const facts = {
    dtype,
    pooling: poolingOf(ofPooling, files),
    maxTokens: shortest([ofSentences?.max_seq_length, ofTokenizer.model_max_length, positionsOf(model)]),
    prompts,
  };
  const hash = createHash('sha256').update(JSON.stringify(facts));
  for (const part of ['tokenizer.json', 'tokenizer_config.json', ...parts]) await files.hash(part, hash);
  return {
    ...facts,
    name: `onnx/${printable(basename(folder))}@${hash.digest('hex').slice(0, 12)}`,
    folder,
    layersAfterPooling: layers
      .map(({ type }) => type.slice(type.lastIndexOf('.') + 1))
      .filter(layer => !['Transformer', 'Pooling', 'Normalize'].includes(layer)),
  };
}

/** The one sentence for whoever set the path. */
export const unusableFolder = (folder: string, why: string): SettingsError =>
  new SettingsError(`EMBEDDING_ONNX_PATH must be a folder with an embedding model, but in ${folder} ${why}.`);

class ModelFolder {
  constructor(private readonly folder: string) {}

  unusable(why: string): SettingsError {
    return unusableFolder(this.folder, why);
  }

  async requireFolder(): Promise<void> {
    const found = await stat(this.folder).catch(() => null);
    if (!found?.isDirectory())
      throw new SettingsError(`EMBEDDING_ONNX_PATH must be a folder, and ${this.folder} is none.`);
  }

  async required<T extends z.ZodType>(file: string, schema: T): Promise<z.output<T>> {
    const content = await this.optional(file, schema);
    if (content === null) throw this.unusable(`there is no ${file}`);
    return content;
  }

  async optional<T extends z.ZodType>(file: string, schema: T): Promise<z.output<T> | null> {
    const text = await readFile(join(this.folder, file), 'utf8').catch((error: unknown) => {
      if (isMissing(error)) return null;
      throw this.unusable(`${file} cannot be read (${codeOf(error)})`);
    });
    if (text === null) return null;
    let content: unknown;
    try {
      content = JSON.parse(text);
    } catch {
      throw this.unusable(`${file} is no JSON`);
    }
    const result = schema.safeParse(content);
    if (result.success) return result.data;
    const reasons = result.error.issues.map(({ path, message }) => [...path, message].join(': '));
    throw this.unusable(`${file} is not as it should be: ${reasons.join('; ')}`);
  }

  /** The model’s file and those with its weights, where they stand apart from it. */
  async modelFiles(): Promise<{ dtype: OnnxModel['dtype']; parts: string[] }> {
    const names = await readdir(join(this.folder, 'onnx')).catch((error: unknown): string[] => {
      if (isMissing(error)) return [];
      throw this.unusable(`onnx cannot be read (${codeOf(error)})`);
    });
    for (const dtype of ['fp32', 'q8'] as const) {
      const file = MODEL_FILES[dtype];
      if (!names.includes(file)) continue;
      const parts = names.filter(name => name.startsWith(file)).toSorted();
      return { dtype, parts: parts.map(name => `onnx/${name}`) };
    }
    throw this.unusable(`there is neither onnx/${MODEL_FILES.fp32} nor onnx/${MODEL_FILES.q8}`);
  }

  async hash(file: string, hash: ReturnType<typeof createHash>): Promise<void> {
    hash.update(`\0${file}\0`);
    try {
      for await (const chunk of createReadStream(join(this.folder, file), { highWaterMark: 1 << 20 }))
        hash.update(chunk as Buffer);
    } catch (error) {
      throw this.unusable(`${file} cannot be read (${codeOf(error)})`);
    }
  }
}

function poolingOf(settings: z.output<typeof poolingConfig> | null, files: ModelFolder): Pooling {
  if (!settings) return 'mean';
  const modes = settings.pooling_mode
    ? [settings.pooling_mode]
    : Object.keys(settings)
        .filter(key => key.startsWith('pooling_mode_') && settings[key] === true)
        .map(key => key.slice('pooling_mode_'.length));
  const [mode = 'mean', ...others] = modes;
  const pooling = Object.hasOwn(POOLINGS, mode) ? POOLINGS[mode] : undefined;
  if (!pooling || others.length > 0)
    throw files.unusable(`1_Pooling/config.json says ${modes.join(' and ')}, which is not supported`);
  return pooling;
}

/** As `encode_query` and `encode_document` of sentence-transformers choose them. */
function promptsOf(settings: z.output<typeof sentenceTransformersConfig> | null): OnnxModel['prompts'] {
  const { prompts = {}, default_prompt_name: usual } = settings ?? {};
  const first = (...names: Array<string | null | undefined>): string =>
    names
      .filter(name => typeof name === 'string' && Object.hasOwn(prompts, name))
      .map(name => prompts[name as string] as string)[0] ?? '';
  return { query: first('query', usual), document: first('document', 'passage', 'corpus', usual) };
}

function positionsOf({
  model_type: type = '',
  max_position_embeddings: all,
  pad_token_id: padding,
}: z.output<typeof config>): number | null {
  if (typeof all !== 'number') return null;
  return ROBERTA.test(type) ? all - (padding ?? 1) - 1 : all;
}

/** Tokenizers without a limit say 1e30. */
function shortest(limits: ReadonlyArray<number | null | undefined>): number {
  const known = limits.filter(limit => typeof limit === 'number' && limit >= 1 && limit < 1e6);
  return Math.floor(Math.min(...(known.length > 0 ? (known as number[]) : [USUAL_MAX_TOKENS])));
}

/** A name that may stand anywhere. */
const printable = (name: string): string => name.replaceAll(/[^\w.-]+/g, '_').slice(0, 80) || 'model';

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown';

const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(codeOf(error));
