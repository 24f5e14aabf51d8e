import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]'];

export interface TinyOnnxModel {
  /** Vectors of the words it knows, all of one dimension; `[CLS]`, `[SEP]` and `[UNK]` may be among them, and are 0 else. */
  words: Record<string, number[]>;
  /** Below `onnx/` [model.onnx]. */
  file?: string;
  /** What it gives: the vectors of tokens, or their mean [last_hidden_state]. */
  output?: 'last_hidden_state' | 'sentence_embedding';
  /** More files, or others in the place of its own, by their paths; null: left out. */
  files?: Record<string, unknown>;
}

/**
 * Writes the folder of an embedding model that looks up the vector of each word: as small as such a model can be, and real
 * to whatever loads it.
 */
export async function writeTinyOnnxModel(folder: string, model: TinyOnnxModel): Promise<void> {
  const { words, file = 'model.onnx', output = 'last_hidden_state', files = {} } = model;
  const tokens = [...new Set([...SPECIAL, ...Object.keys(words)])];
  const dimensions = Object.values(words)[0]!.length;
  const table = tokens.map(token => words[token] ?? Array.from({ length: dimensions }, () => 0));
  const contents: Record<string, unknown> = {
    'config.json': { model_type: 'bert', architectures: ['BertModel'], max_position_embeddings: 512 },
    'tokenizer.json': tokenizerOf(tokens),
    'tokenizer_config.json': {
      tokenizer_class: 'BertTokenizer',
      model_max_length: 512,
      do_lower_case: true,
      unk_token: '[UNK]',
      sep_token: '[SEP]',
      pad_token: '[PAD]',
      cls_token: '[CLS]',
    },
    [`onnx/${file}`]: encodeModel(table, output),
    ...files,
  };
  for (const [path, content] of Object.entries(contents)) {
    if (content === null) continue;
    await mkdir(dirname(join(folder, path)), { recursive: true });
    const raw = typeof content === 'string' || content instanceof Uint8Array;
    await writeFile(join(folder, path), raw ? content : JSON.stringify(content));
  }
}

/** In the format of Hugging Face’s tokenizers: BERT’s WordPiece. */
function tokenizerOf(tokens: readonly string[]): object {
  const special = (id: number) => ({
    id,
    content: tokens[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const around = (token: string) => ({ SpecialToken: { id: token, type_id: 0 } });
  const template = (token: string) => [token, { id: token, ids: [tokens.indexOf(token)], tokens: [token] }];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL.map((_, id) => special(id)),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [around('[CLS]'), { Sequence: { id: 'A', type_id: 0 } }, around('[SEP]')],
      pair: [
        around('[CLS]'),
        { Sequence: { id: 'A', type_id: 0 } },
        around('[SEP]'),
        { Sequence: { id: 'B', type_id: 1 } },
        around('[SEP]'),
      ],
      special_tokens: Object.fromEntries([template('[CLS]'), template('[SEP]')]),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    },
  };
}

const FLOAT = 1;
const INT64 = 7;

/**
 * A ModelProto: `Gather(table, input_ids)`, and the mean of its rows where the vector of the text is wanted.
 *
 * Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (numbers of fields)
 */
function encodeModel(table: readonly number[][], output: string): Buffer {
  const dimensions = table[0]!.length;
  const ofTokens = output === 'last_hidden_state';
  const nodes = [
    node('Gather', ['table', 'input_ids'], ofTokens ? output : 'vectors'),
    ...(ofTokens
      ? []
      : [node('ReduceMean', ['vectors'], output, [integers('axes', [1]), integer('keepdims', 0)])]),
  ];
  const graph = [
    ...nodes.map(content => message(1, content)),
    text(2, 'tiny'),
    message(5, tensor('table', table)),
    message(11, input('input_ids', INT64, ['batch', 'tokens'])),
    message(11, input('attention_mask', INT64, ['batch', 'tokens'])),
    message(12, input(output, FLOAT, ofTokens ? ['batch', 'tokens', dimensions] : ['batch', dimensions])),
  ];
  return Buffer.concat([number(1, 8), message(8, [text(1, ''), number(2, 13)]), message(7, graph)]);
}

const node = (type: string, inputs: string[], output: string, attributes: Buffer[] = []): Buffer[] => [
  ...inputs.map(name => text(1, name)),
  text(2, output),
  text(4, type),
  ...attributes,
];

const integer = (name: string, value: number): Buffer =>
  message(5, [text(1, name), number(3, value), number(20, 2)]);

const integers = (name: string, values: number[]): Buffer =>
  message(5, [text(1, name), ...values.map(value => number(8, value)), number(20, 7)]);

function tensor(name: string, rows: readonly number[][]): Buffer[] {
  const raw = Buffer.from(Float32Array.from(rows.flat()).buffer);
  return [number(1, rows.length), number(1, rows[0]!.length), number(2, FLOAT), text(8, name), bytes(9, raw)];
}

/** A ValueInfoProto; a dimension with a name has no fixed length. */
function input(name: string, type: number, shape: Array<string | number>): Buffer[] {
  const dimensions = shape.map(size =>
    message(1, [typeof size === 'string' ? text(2, size) : number(1, size)]),
  );
  return [text(1, name), message(2, [message(1, [number(1, type), message(2, dimensions)])])];
}

function varint(value: number): Buffer {
  const out: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) + 128);
  return Buffer.from([...out, value]);
}

const number = (field: number, value: number): Buffer => Buffer.concat([varint(field * 8), varint(value)]);

const bytes = (field: number, content: Uint8Array): Buffer =>
  Buffer.concat([varint(field * 8 + 2), varint(content.length), content]);

const text = (field: number, content: string): Buffer => bytes(field, Buffer.from(content));

const message = (field: number, content: Buffer[]): Buffer => bytes(field, Buffer.concat(content));
