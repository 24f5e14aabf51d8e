export const DOCUMENT_ERROR_CODES = [
  'unsupported_type',
  'type_mismatch',
  'empty',
  'damaged',
  'encrypted',
  'no_text',
  'too_large',
  'timeout',
  'duplicate_document',
  'type_not_allowed',
] as const;

export type DocumentErrorCode = (typeof DOCUMENT_ERROR_CODES)[number];

/**
 * A fault of the file itself: trying again with the same content fails again.
 * The message is a sentence for the person who uploaded it.
 */
export class DocumentError extends Error {
  override readonly name = 'DocumentError';

  constructor(
    readonly code: DocumentErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
