import { serverSentEvent } from '../../foundation/http/event-stream.js';
import { toPassage } from '../retrieval/retrieval.dto.js';
import type { Answer, AnswerEvent } from './answer-events.js';
import type { WireAnswer } from './rag-query.dto.js';

export function toAnswer(answer: Answer, includeText: boolean): WireAnswer {
  const { usage, latency } = answer;
  return {
    answer: answer.answer,
    answered: answer.answered,
    citations: answer.citations,
    removed_citations: answer.removedCitations,
    passages: answer.passages.map(passage => toPassage(passage, includeText)),
    usage: toUsage(usage),
    model: answer.model,
    cached: answer.cached,
    latency_ms: { retrieval: rounded(latency.retrieval), generation: rounded(latency.generation) },
  };
}

export const toUsage = ({
  promptTokens,
  completionTokens,
  credits,
}: Answer['usage']): WireAnswer['usage'] => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  credits,
});

/** As they are written: each event under its type, with its data as the API document describes them. */
export async function* toServerSentEvents(
  events: AsyncIterable<AnswerEvent>,
  about: { includeText: boolean; requestId: string | null },
): AsyncGenerator<string, void> {
  for await (const event of events) yield serverSentEvent(event.type, JSON.stringify(dataOf(event, about)));
}

function dataOf(
  event: AnswerEvent,
  { includeText, requestId }: { includeText: boolean; requestId: string | null },
): object {
  switch (event.type) {
    case 'passages':
      return { passages: event.passages.map(passage => toPassage(passage, includeText)) };
    case 'token':
      return { text: event.text };
    case 'citation':
      return event.citation;
    case 'usage':
      return toUsage(event.usage);
    case 'done':
      return toAnswer(event.answer, includeText);
    case 'error':
      return { ...event.error, request_id: requestId, answer: toAnswer(event.answer, includeText) };
  }
}

const rounded = (milliseconds: number): number => Math.round(milliseconds * 10) / 10;
