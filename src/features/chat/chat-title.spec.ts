import { describe, expect, it } from 'vitest';
import { titleOf } from './chat-title.js';

describe('titleOf', () => {
  it.each([
    ['How long is the warranty?', 'How long is the warranty?'],
    ['  How long\n is  the warranty? And who pays? ', 'How long is the warranty?'],
    ['What is in version 2.5 of the manual', 'What is in version 2.5 of the manual'],
    ['保修期是多久？谁付钱？', '保修期是多久？谁付钱？'],
    ['?', '?'],
  ])('%j is called %j', (question, title) => expect(titleOf(question)).toBe(title));

  it('cuts a long one between words', () => {
    const title = titleOf(`Tell me, ${'please, '.repeat(40)}what this is about.`);
    expect([...title].length).toBeLessThanOrEqual(80);
    expect(title).toMatch(/please…$/);
  });

  it('cuts where there are no words, and no character in two', () => {
    const title = titleOf('🚲'.repeat(200));
    expect([...title]).toHaveLength(80);
    expect(title.isWellFormed()).toBe(true);
  });
});
