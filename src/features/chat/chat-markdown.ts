import type { Citation } from '../rag-query/rag-query.dto.js';
import type { ChatMessageRow, ChatSession, MessageStatus } from './chat-session.js';

const SPEAKERS: Record<ChatMessageRow['role'], string> = { user: 'Question', assistant: 'Answer' };
const REMARKS: Record<MessageStatus, string> = {
  complete: '',
  interrupted: '*(broken off: whoever asked went away)*',
  failed: '*(broken off: whoever answered failed)*',
};
const OPINIONS = { [1]: 'Rated as good', [-1]: 'Rated as bad' } as const;

export function toMarkdownTitle({ title, createdAt }: ChatSession): string {
  return `# ${inline(title)}\n\n${createdAt.toISOString()}\n`;
}

/** A message to be read: its text as it was said, then what it cites. */
export function toMarkdown(message: ChatMessageRow): string {
  const blocks = [
    `\n## ${SPEAKERS[message.role]}, ${message.createdAt.toISOString()}`,
    message.content,
    REMARKS[message.status],
    (message.citations ?? []).map(toSource).join('\n'),
    toOpinion(message),
  ];
  return `${blocks.filter(block => block !== '').join('\n\n')}\n`;
}

const toSource = ({ index, title, page, quote }: Citation): string =>
  `- [${index}] ${inline(title)}${page === null ? '' : `, page ${page}`}: “${inline(quote)}”`;

function toOpinion({ feedback }: ChatMessageRow): string {
  if (!feedback) return '';
  const rating = feedback.rating === null ? 'Said of it' : OPINIONS[feedback.rating];
  return `> ${rating}${feedback.comment === '' ? '' : `: ${inline(feedback.comment)}`}`;
}

/** In one line, without what would begin markup. */
const inline = (text: string): string =>
  text
    .replace(/\s+/gu, ' ')
    .trim()
    .replace(/[\\`*_[\]<>]/g, '\\$&');
