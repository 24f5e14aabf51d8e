import { estimateTokens } from '../../foundation/extraction/token-estimate.js';

/**
 * Without what is no text to a reader, but something else to a model: characters that nobody sees (tags of Unicode, signs of
 * direction, zero-width ones), and the tokens by which servers tell roles apart, which some of them find in texts too.
 */
export function withoutControls(text: string): string {
  return text
    .replaceAll(/[\u{E0000}-\u{E007F}\u200B\u2060-\u2064\u202A-\u202E\u2066-\u2069\uFEFF]/gu, '')
    .replaceAll(/<(?=\|)|(?<=\|)>/g, match => (match === '<' ? '< ' : ' >'))
    .replaceAll(/<(?=\/?(?:s|start_of_turn|end_of_turn|bos|eos|tool_call|tool_response|think)>)/gi, '< ')
    .replaceAll(/\[(?=\/?INST\])/g, '[ ')
    .replaceAll(/<(?=<\/?SYS>>)/g, '< ');
}

/** The beginning of a text that has no more than so many tokens, by estimate. */
export function cutTo(text: string, tokens: number): string {
  if (estimateTokens(text) <= tokens) return text;
  // Whole characters of what fits in bytes.
  const bytes = Buffer.from(text).subarray(0, Math.max(0, tokens) * 4);
  return bytes.toString('utf8').replace(/\uFFFD+$/, '');
}
