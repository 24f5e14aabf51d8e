import type { MessagePort } from 'node:worker_threads';
import type { Chunk } from './chunk-splitter.js';
import type { DocumentErrorCode } from './document-error.js';
import type { LoadSummary, Picture, SplitOptions } from './document-parts.js';
import type { DocumentSource } from './document-type.js';

export interface LoadTask {
  port: MessagePort;
  path: string;
  source: DocumentSource;
  readable: boolean;
  /** Whether the other side reads pictures. */
  recognizes: boolean;
  split: SplitOptions;
  /** A folder that does not exist yet. */
  scratch: string;
}

/** What the thread says. `alive` every few seconds, as long as it is not within something long. */
export type FromWorker =
  | { type: 'started' }
  | { type: 'alive' }
  | { type: 'chunks'; chunks: Chunk[] }
  | { type: 'picture'; picture: Picture }
  | { type: 'read'; summary: LoadSummary }
  // Only the message of an error survives the way between threads, so its code travels as data.
  | { type: 'refused'; code: DocumentErrorCode; message: string; cause?: string };

/** What it is told: that a batch was taken, what a picture says, that nobody wants more. */
export type ToWorker = { type: 'taken' } | { type: 'recognized'; text: string } | { type: 'stop' };

/** Chunks at a time, and how many times before the first is taken. */
export const BATCH_SIZE = 200;
export const BATCHES_AHEAD = 2;
