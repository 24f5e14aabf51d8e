import { expect, it } from 'vitest';
import { toMarkdown, toMarkdownTitle } from './chat-markdown.js';
import type { ChatMessageRow, ChatSession } from './chat-session.js';

const CITATION = {
  index: 1,
  chunk_id: 'c',
  document_id: 'd',
  title: 'Terms *and* [conditions]',
  quote: 'Ten\nyears.',
  page: 3,
};

const message = (fields: Partial<ChatMessageRow>): ChatMessageRow => ({
  id: 'm',
  sessionId: 's',
  role: 'assistant',
  content: 'Ten years. [1]',
  status: 'complete',
  errorCode: null,
  feedback: null,
  createdAt: new Date('2026-01-02T03:04:05Z'),
  ...fields,
});

it('is a heading for each message, its text, and what it cites', () => {
  const feedback = { rating: 1 as const, comment: 'Thanks!\n# Not a heading', updatedAt: new Date() };
  expect(toMarkdown(message({ citations: [CITATION], feedback }))).toBe(`
## Answer, 2026-01-02T03:04:05.000Z

Ten years. [1]

- [1] Terms \\*and\\* \\[conditions\\], page 3: “Ten years.”

> Rated as good: Thanks! # Not a heading
`);
});

it('says where an answer broke off', () => {
  expect(toMarkdown(message({ content: 'Ten', status: 'interrupted' }))).toContain('went away');
  expect(toMarkdown(message({ content: '', status: 'failed' }))).toContain('failed');
});

it('has the title in one line', () => {
  const session = { title: 'What\n<is> this?', createdAt: new Date('2026-01-02T03:04:05Z') } as ChatSession;
  expect(toMarkdownTitle(session)).toBe('# What \\<is\\> this?\n\n2026-01-02T03:04:05.000Z\n');
});
