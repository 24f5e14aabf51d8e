import type { Answer, AnswerEvent } from '../rag-query/answer-events.js';
import type { Citation } from '../rag-query/rag-query.dto.js';
import type { AgentEvent } from './chat-events.js';
import type { AnswerDetails, ToolCall } from './chat-session.js';

/** What has been said of an answer so far. */
export class Said {
  text = '';
  readonly toolCalls: ToolCall[] = [];
  /** Documents of all that was found for it. */
  readonly documentIds = new Set<string>();
  private readonly citations: Citation[] = [];
  private readonly calls = new Map<string, ToolCall>();

  hear(event: AnswerEvent | AgentEvent): void {
    switch (event.type) {
      case 'token':
        this.text += event.text;
        break;
      case 'citation':
        this.citations.push(event.citation);
        break;
      case 'tool_call': {
        const call = { tool: event.tool, query: event.query, found: null };
        this.toolCalls.push(call);
        this.calls.set(event.id, call);
        break;
      }
      case 'tool_result': {
        const call = this.calls.get(event.id);
        if (call) call.found = event.passages?.length ?? null;
        for (const { passage } of event.passages ?? []) this.documentIds.add(passage.document_id);
        break;
      }
      case 'passages':
        for (const passage of event.passages) this.documentIds.add(passage.document_id);
        break;
      case 'usage':
      case 'done':
      case 'error':
        break;
    }
  }

  /** @param answer null where it did not come to its end: what it was made with is not known then */
  details(answer: Answer | null): AnswerDetails {
    return {
      answered: answer?.answered ?? null,
      citations: answer?.citations ?? this.citations,
      toolCalls: this.toolCalls,
      model: answer?.model ?? null,
      promptTokens: answer?.usage.promptTokens ?? null,
      completionTokens: answer?.usage.completionTokens ?? null,
      credits: answer?.usage.credits ?? null,
      retrievalMs: answer?.latency.retrieval ?? null,
      generationMs: answer?.latency.generation ?? null,
    };
  }
}
