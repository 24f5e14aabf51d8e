import { describe, expect, it } from 'vitest';
import type { ChatMessage } from '../../core/models/model.js';
import { joinedQuestion, readStandalone, standalonePrompt } from './standalone-question.js';

const HISTORY: ChatMessage[] = [
  { role: 'user', content: 'How long is the warranty on frames?' },
  { role: 'assistant', content: 'Ten years [1].' },
];

describe('standalonePrompt', () => {
  it('asks for the question with what was said before it', () => {
    const [system, user] = standalonePrompt('And on batteries?', HISTORY, 8192);
    expect(system?.role).toBe('system');
    expect(user?.content).toBe(
      'Conversation:\n\nQuestion: How long is the warranty on frames?\n\nAnswer: Ten years [1].\n\nLast question: And on batteries?',
    );
  });

  it('keeps to the newest that fits', () => {
    const long = Array.from({ length: 50 }, (_, i): ChatMessage => ({
      role: 'user',
      content: `${i} `.repeat(2_000),
    }));
    const content = standalonePrompt('And?', long, 2048)[1]?.content ?? '';
    expect(content.length).toBeLessThan(6_000);
    expect(content).toContain('Question: 49 ');
  });
});

describe('readStandalone', () => {
  it.each([
    ['How long is the warranty on batteries?', 'How long is the warranty on batteries?'],
    ['Question: "How long?"', '"How long?"'.slice(1, -1)],
    ['  How\nlong? \n\nBecause it was asked.', 'How long?'],
    ['', null],
    ['x'.repeat(5_000), null],
  ])('%j', (reply, question) => {
    expect(readStandalone(reply)).toBe(question);
  });
});

describe('joinedQuestion', () => {
  it('lends the words of the question before', () => {
    expect(joinedQuestion('And on batteries?', HISTORY)).toBe(
      'And on batteries?\nHow long is the warranty on frames?',
    );
    expect(joinedQuestion('How long?', [])).toBe('How long?');
    expect(joinedQuestion('x', [{ role: 'user', content: 'y'.repeat(20_000) }]).length).toBe(10_000);
  });
});
