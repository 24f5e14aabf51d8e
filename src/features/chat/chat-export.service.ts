import { Injectable } from '@nestjs/common';
import { Readable } from 'node:stream';
import type { ChatMessageRow, ChatSession } from './chat-session.js';
import { toChatMessage, toChatSession } from './chat-sessions.dto.js';
import { ChatSessionsService } from './chat-sessions.service.js';
import { toMarkdown, toMarkdownTitle } from './chat-markdown.js';

export type ExportFormat = 'json' | 'markdown';

/** A chat as a file. */
export interface ExportedChat {
  content: Readable;
  type: string;
  fileName: string;
}

const MESSAGES_AT_ONCE = 100;

/** Writes chats as files, a few messages at a time: however long one is, it is never in memory as a whole. */
@Injectable()
export class ChatExport {
  constructor(private readonly sessions: ChatSessionsService) {}

  /** @throws Problem 404 */
  async open(id: string, format: ExportFormat): Promise<ExportedChat> {
    const session = await this.sessions.get(id);
    const messages = this.messages(id);
    const [lines, type, extension] =
      format === 'json'
        ? [asJson(session, messages), 'application/json; charset=utf-8', 'json']
        : [asMarkdown(session, messages), 'text/markdown; charset=utf-8', 'md'];
    return {
      content: Readable.from(lines, { objectMode: false }),
      type,
      fileName: `chat-${session.id}.${extension}`,
    };
  }

  private async *messages(id: string): AsyncGenerator<ChatMessageRow> {
    for (let page = 1; ; page++) {
      const { items } = await this.sessions.listMessages(id, page, MESSAGES_AT_ONCE);
      yield* items;
      if (items.length < MESSAGES_AT_ONCE) return;
    }
  }
}

async function* asJson(
  session: ChatSession,
  messages: AsyncIterable<ChatMessageRow>,
): AsyncGenerator<string> {
  yield `{"session":${JSON.stringify(toChatSession(session))},"messages":[`;
  let separator = '\n';
  for await (const message of messages) {
    yield separator + JSON.stringify(toChatMessage(message));
    separator = ',\n';
  }
  yield '\n]}\n';
}

async function* asMarkdown(
  session: ChatSession,
  messages: AsyncIterable<ChatMessageRow>,
): AsyncGenerator<string> {
  yield toMarkdownTitle(session);
  for await (const message of messages) yield toMarkdown(message);
}
