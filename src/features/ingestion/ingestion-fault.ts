import { ModelError } from '../../core/models/model.js';
import { DOCUMENT_ERROR_CODES, DocumentError } from '../../foundation/extraction/document-error.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileDamagedError, FileMissingError } from '../../foundation/storage/file-storage.js';
import { WebFault } from './web-fault.js';

/** How an attempt ended, as the document's row says it to the tenant. */
export interface IngestionFault {
  code: string;
  message: string;
  /** Whether another attempt may go well without anybody doing something. */
  passing: boolean;
  /** Seconds that another attempt has to wait at least. */
  retryAfter?: number | null;
}

/** The knowledge base holds vectors of another model, which cannot be compared with ours. */
export class EmbeddingModelChangedError extends Error {
  override readonly name = 'EmbeddingModelChangedError';

  /** @param passing the knowledge base is being re-indexed for a model that other processes have already */
  constructor(readonly passing: boolean) {
    super('The knowledge base holds vectors of another embedding model; it has to be re-indexed as a whole.');
  }
}

/** Faults of a document itself, with which it fails again whatever is done around it. */
export const OWN_FAULTS: readonly string[] = [...DOCUMENT_ERROR_CODES, 'content_missing', 'content_damaged'];

const permanent = (code: string, message: string): IngestionFault => ({ code, message, passing: false });

export function faultOf(error: unknown): IngestionFault {
  if (error instanceof WebFault) {
    const { code, message, passing, retryAfter } = error;
    return { code, message, passing, retryAfter };
  }
  if (error instanceof DocumentError) return permanent(error.code, error.message);
  if (error instanceof ModelError)
    return {
      code: error.code,
      message: error.message,
      passing: error.retryable,
      retryAfter: error.retryAfter,
    };
  // There are too few credits: somebody has to do something, and to ask for another attempt.
  if (error instanceof Problem)
    return { code: error.code, message: error.detail, passing: error.status >= 500 };
  if (error instanceof FileMissingError)
    return permanent('content_missing', 'The original of this document is not in the storage.');
  if (error instanceof FileDamagedError)
    return permanent('content_damaged', 'The original of this document has changed since it was stored.');
  if (error instanceof EmbeddingModelChangedError)
    return { code: 'embedding_model_changed', message: error.message, passing: error.passing };
  // What it was is in the log; a row that tenants read is no place for it.
  return { code: 'internal_error', message: 'Something went wrong on our side.', passing: true };
}
