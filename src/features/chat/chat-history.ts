import type { ChatMessage } from '../../core/models/model.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';

/** Tokens of what was said before that a model is told again. */
export const HISTORY_TOKENS = 2_000;
/** Messages that are looked at for it. */
export const HISTORY_MESSAGES = 40;

/** Their numbers meant passages that the next answer does not rest on. */
const MARKERS = /\s*\[\d{1,3}\]/g;

/**
 * The latest questions with their answers, as many as there is room for, the oldest first. Questions that nobody has
 * answered are left out: models expect to have had their turn.
 *
 * @param messages the oldest first
 * @param room in tokens
 */
export function historyOf(
  messages: ReadonlyArray<Pick<ChatMessage, 'content'> & { role: 'user' | 'assistant' }>,
  room = HISTORY_TOKENS,
): ChatMessage[] {
  const history: ChatMessage[] = [];
  let left = room;
  for (let i = messages.length - 1; i > 0; i--) {
    const [question, answer] = [messages[i - 1], messages[i]];
    if (question?.role !== 'user' || answer?.role !== 'assistant') continue;
    const text = answer.content.replaceAll(MARKERS, '').trim();
    if (text === '') continue;
    left -= estimateTokens(question.content) + estimateTokens(text);
    if (left < 0) break;
    history.unshift({ role: 'user', content: question.content }, { role: 'assistant', content: text });
  }
  return history;
}

/** The newest of it that fits into another room: whole questions with their answers. */
export function newestOf(history: readonly ChatMessage[], room: number): ChatMessage[] {
  let left = room;
  let from = history.length;
  for (let i = history.length - 2; i >= 0; i -= 2) {
    left -= estimateTokens(history[i]?.content ?? '') + estimateTokens(history[i + 1]?.content ?? '');
    if (left < 0) break;
    from = i;
  }
  return history.slice(from);
}
