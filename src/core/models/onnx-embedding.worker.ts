import { availableParallelism } from 'node:os';
import { workerData } from 'node:worker_threads';
import { type OnnxModel, readOnnxFolder } from './onnx-folder.js';

/** The model that this thread loads; it has to be what it was when the process started. */
export interface OnnxWorkerData {
  folder: string;
  name: string;
}

/** As much of the package’s types as is used here: it is only there where somebody has installed it. */
interface Transformers {
  env: {
    allowRemoteModels: boolean;
    useFSCache: boolean;
    useWasmCache: boolean;
    logLevel: number;
    fetch: () => Promise<never>;
  };
  LogLevel: { NONE: number };
  AutoTokenizer: { from_pretrained(path: string, options: object): Promise<Tokenizer> };
  AutoModel: {
    from_pretrained(path: string, options: object): Promise<(inputs: Inputs) => Promise<Outputs>>;
  };
  Tensor: new (type: 'int64', data: BigInt64Array, dims: number[]) => Tensor;
}

type Tokenizer = (
  text: string,
  options: { add_special_tokens?: boolean; return_tensor: false },
) => Record<string, number[]> & { input_ids: number[] };

interface Tensor {
  readonly type: string;
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

type Inputs = Record<string, Tensor>;
type Outputs = Partial<Record<string, Tensor>>;

/** No token of a real text is longer on average; what is cut off is behind the last token that the model sees. */
const MOST_CHARACTERS_A_TOKEN = 32;

const PACKAGE = '@huggingface/transformers';

let loaded: Promise<(text: string) => Promise<Float32Array>> | null = null;

/** Vectors in the order of the texts. */
export default async function embed(texts: string[]): Promise<Float32Array[]> {
  loaded ??= load(workerData as OnnxWorkerData);
  const vectorOf = await loaded.catch((error: unknown) => {
    // What was missing may be there the next time.
    loaded = null;
    throw error;
  });
  const vectors: Float32Array[] = [];
  for (const text of texts) vectors.push(await vectorOf(text));
  return vectors;
}

async function load({ folder, name }: OnnxWorkerData): Promise<(text: string) => Promise<Float32Array>> {
  const model = await readOnnxFolder(folder);
  // A thread that was idle is ended and started anew, and vectors of two models would stand under one name.
  if (model.name !== name) throw new Error('the files are not those of the start; start the process again');

  // A variable: the compiler would look for the package, which need not be there.
  const { env, LogLevel, AutoTokenizer, AutoModel, Tensor } = (await import(PACKAGE)) as Transformers;
  env.allowRemoteModels = false;
  env.fetch = () => Promise.reject(new Error('nothing is downloaded'));
  // A file of the same name that was downloaded once would be taken instead.
  env.useFSCache = false;
  env.useWasmCache = false;
  // It would write the tokens of texts into the log.
  env.logLevel = LogLevel.NONE;

  // An absolute path and not a name below `localModelPath`, because not every folder’s name is one of a model.
  const tokenizer = await AutoTokenizer.from_pretrained(folder, { local_files_only: true });
  const run = await AutoModel.from_pretrained(folder, {
    local_files_only: true,
    device: 'cpu',
    dtype: model.dtype,
    session_options: {
      // A core is left to whoever asks.
      intraOpNumThreads: Math.max(1, availableParallelism() - 1),
      interOpNumThreads: 1,
      // Threads that wait would keep their cores busy for it.
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    },
  });
  const encode = encoder(tokenizer, model.maxTokens);

  return async text => {
    const inputs = Object.fromEntries(
      Object.entries(encode(text)).map(([input, ids]) => [
        input,
        new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      ]),
    );
    return pooled(await run(inputs), model);
  };
}

/**
 * Tokens as the model takes them. The library itself cuts what is too long after it has put the model’s own tokens around
 * the text, and so takes the last of them away: `[SEP]`, or the one whose vector is the text’s.
 */
function encoder(tokenizer: Tokenizer, maxTokens: number): (text: string) => Record<string, number[]> {
  const behind = tokensBehind(tokenizer);
  return text => {
    // Half of a surrogate pair is a character of no vocabulary.
    const beginning = text.slice(0, maxTokens * MOST_CHARACTERS_A_TOKEN).toWellFormed();
    const tokens = tokenizer(beginning, { return_tensor: false });
    const { length } = tokens.input_ids;
    if (length <= maxTokens) return tokens;
    return Object.fromEntries(
      Object.entries(tokens).map(([input, ids]) => [
        input,
        [...ids.slice(0, maxTokens - behind), ...ids.slice(length - behind)],
      ]),
    );
  };
}

/** How many tokens the tokenizer puts behind a text. */
function tokensBehind(tokenizer: Tokenizer): number {
  const alone = tokenizer('a', { add_special_tokens: false, return_tensor: false }).input_ids;
  const whole = tokenizer('a', { return_tensor: false }).input_ids;
  for (let before = 0; before + alone.length <= whole.length; before++)
    if (alone.every((id, i) => whole[before + i] === id)) return whole.length - before - alone.length;
  return 0;
}

/** Of one text: some exports give its vector, the others those of its tokens. */
function pooled(outputs: Outputs, { pooling, layersAfterPooling }: OnnxModel): Float32Array {
  const whole = outputs['sentence_embedding'];
  if (whole) return Float32Array.from(floats(whole));
  if (layersAfterPooling.length > 0)
    throw new Error(`the model file lacks what comes after pooling: ${layersAfterPooling.join(', ')}`);
  const ofTokens = outputs['last_hidden_state'] ?? outputs['token_embeddings'];
  const [, tokens, dimensions] = ofTokens?.dims ?? [];
  if (!ofTokens || !tokens || !dimensions)
    throw new Error(`the model gives no vectors but ${Object.keys(outputs).join(', ') || 'nothing'}`);
  const values = floats(ofTokens);
  // Copies: what is given to another thread takes its whole buffer along.
  if (pooling === 'first') return values.slice(0, dimensions);
  if (pooling === 'last') return values.slice(-dimensions);
  const sum = new Float32Array(dimensions);
  for (let i = 0; i < values.length; i++) sum[i % dimensions]! += values[i]!;
  // Divided by the number of tokens it would be their mean, but its length is made 1 anyway.
  return sum;
}

function floats({ type, data }: Tensor): Float32Array {
  if (type !== 'float32') throw new Error(`the model gives ${type} where float32 is expected`);
  return data;
}
