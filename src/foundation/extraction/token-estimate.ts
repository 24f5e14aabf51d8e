/** Tokens of a text, where no model has counted them: UTF-8 bytes / 4, close for English and high for most other languages. */
export const estimateTokens = (text: string): number => Math.ceil(Buffer.byteLength(text) / 4);
