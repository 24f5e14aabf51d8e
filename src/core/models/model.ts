import type { BaseChatModel } from '@langchain/core/language_models/chat_models';

/** Options of a call that the caller may give up. */
export interface CallOptions {
  /** Aborted: work that still waits is dropped, work under way is left to itself, the call rejects with the reason. */
  signal?: AbortSignal;
}

export interface EmbedDocumentsOptions extends CallOptions {
  /** Called after every batch with the number of texts done so far. */
  onProgress?: (done: number) => void | Promise<void>;
}

/** Turns text into vectors of unit length, all of one dimension. */
export interface EmbeddingModel {
  /** Of its vectors: `bundled/universal-sentence-encoder-lite`, `onnx/…`, or the model's name at its provider. */
  readonly name: string;
  /** Share of the vector leg in the fused score (0-1); the lexical leg has the rest. */
  readonly fusionWeight: number;
  /** @throws ModelError */
  embedQuery(text: string, options?: CallOptions): Promise<number[]>;
  /**
   * Embeds in batches.
   *
   * @returns the vectors in the order of the texts
   * @throws ModelError as soon as one batch failed
   */
  embedDocuments(texts: string[], options?: EmbedDocumentsOptions): Promise<number[][]>;
}

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** A message to a model that sees; pictures are `data:` URLs. */
export interface VisualMessage {
  role: 'user';
  content: Array<{ type: 'text'; text: string } | { type: 'image_url'; image_url: { url: string } }>;
}

export interface ChatCompletion {
  text: string;
  /** Name of the model that answered: where one fails, it may be another than was asked first. */
  model: string;
  /** Tokens; 0 where the server does not count them. */
  promptTokens: number;
  /** Tokens; 0 where the server does not count them. */
  completionTokens: number;
}

export interface ChatOptions extends CallOptions {
  /** 0-2. Without it the server's own default applies. */
  temperature?: number;
  /** Longest answer, in tokens. Without it the server's own default applies. */
  maxTokens?: number;
  /** Whether the answer must be a JSON object; models that cannot be told are asked for it by the prompt alone [false]. */
  json?: boolean;
  /** Is told which model answers, before the first piece of a streamed answer: it may be another than was asked first. */
  onModel?: (name: string) => void;
}

/** A model as langchain knows it. */
export interface LangchainModel {
  /** As it is shown and priced. */
  name: string;
  model: BaseChatModel;
}

export interface ChatModel {
  /** As it is shown and priced. */
  readonly name: string;
  /** Tokens that prompt and answer may have together; 8192 where nothing is known. */
  readonly contextTokens: number;
  /** @throws ModelError, or the signal's reason */
  complete(messages: readonly ChatMessage[], options: ChatOptions): Promise<ChatCompletion>;
  /**
   * The answer piece by piece, as it comes; returns the whole. The model is asked no further as soon as the signal aborts
   * or the generator is closed. What was given before an error stays given: another model is only asked where nothing was.
   *
   * @throws ModelError, or the signal's reason
   */
  stream(messages: readonly ChatMessage[], options: ChatOptions): AsyncGenerator<string, ChatCompletion>;
  /**
   * Langchain's own models, for agents: under the same limits of time, tried again and checked alike. What they throw becomes
   * a ModelError by `toModelError`. How much one says is bounded by whoever reads it (`AnswerBounds`).
   *
   * @returns at least one, in the order in which they are to be asked; those that are known to fail stand last
   */
  langchain(options: ChatOptions): Promise<LangchainModel[]>;
}

/** Says how well texts answer a question. */
export interface RerankModel {
  /** As it is shown and priced. */
  readonly name: string;
  /**
   * @returns how relevant each is, 0-1, in the order of the documents
   * @throws ModelError, or the signal's reason
   */
  rerank(query: string, documents: readonly string[], options: CallOptions): Promise<number[]>;
}

/** A picture as its bytes. */
export interface ImageContent {
  content: Uint8Array;
  /** `image/png`, `image/jpeg`, `image/webp` or `image/gif`. */
  mimeType: string;
}

/** What a model has read or heard, and what it cost. */
export interface Reading {
  text: string;
  /** Tokens; 0 where the server does not count them. */
  inputTokens: number;
  /** Tokens; 0 where the server does not count them. */
  outputTokens: number;
}

/** Reads what is written in pictures. */
export interface VisionModel {
  readonly name: string;
  /**
   * @returns Markdown; empty where there is no text in the picture
   * @throws ModelError
   */
  read(picture: ImageContent, options?: CallOptions): Promise<Reading>;
}

/** A file with sound: audio, or video with a sound track. */
export interface Recording {
  path: string;
  mimeType: string;
  /** With the extension that servers tell the format by. */
  fileName: string;
}

/** What is said in a recording. */
export interface Transcript extends Reading {
  /** Markdown where times stand between the paragraphs as headings (`## [00:12:30]`); plain text else. */
  format: 'markdown' | 'plain';
}

/** Writes down what is said. */
export interface TranscriptionModel {
  readonly name: string;
  /** @throws ModelError */
  transcribe(recording: Recording, options?: CallOptions): Promise<Transcript>;
}

/**
 * - `model_unavailable`: not reachable, overloaded or broken at the moment.
 * - `model_rejected`: refused the request, or answered what is no answer; the settings or the input must change.
 * - `model_timeout`: no complete answer in time.
 */
export type ModelErrorCode = 'model_unavailable' | 'model_rejected' | 'model_timeout';

/** A model that did not do its work. The message names neither credentials nor what the server answered. */
export class ModelError extends Error {
  override readonly name = 'ModelError';
  /** Seconds that the server asks to be left alone; null where it says nothing. */
  readonly retryAfter: number | null;
  /** Whether it is there, and only had too many requests. */
  readonly limited: boolean;

  constructor(
    readonly code: ModelErrorCode,
    message: string,
    /** Whether the same call may succeed later. */
    readonly retryable: boolean,
    { retryAfter = null, limited = false, ...options }: ModelErrorOptions = {},
  ) {
    super(message, options);
    this.retryAfter = retryAfter;
    this.limited = limited;
  }
}

interface ModelErrorOptions extends ErrorOptions {
  retryAfter?: number | null;
  limited?: boolean;
}
