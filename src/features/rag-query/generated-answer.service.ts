import { Injectable } from '@nestjs/common';
import {
  type ChatCompletion,
  type ChatMessage,
  type ChatModel,
  ModelError,
} from '../../core/models/model.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { termWeights } from '../retrieval/ranking.js';
import type { Passage, SearchResult } from '../retrieval/retrieval.repository.js';
import { RetrievalService } from '../retrieval/retrieval.service.js';
import type { Answer, AnswerEvent } from './answer-events.js';
import { type Prompt, buildPrompt } from './answer-prompt.js';
import { type AnswerPiece, AnswerReader, CitationNumbers, type ReaderOptions } from './answer-reader.js';
import { CitationSupport } from './citation-support.js';
import { NOT_FOUND, candidateSentences } from './extractive-answer.js';
import { readJsonAnswer } from './json-answer.js';
import { type PaidCall, PaidChatService } from './paid-chat.service.js';
import { citationOf } from './passage-quotes.js';
import type { Citation } from './rag-query.dto.js';

export interface Generation {
  question: string;
  result: SearchResult;
  history: readonly ChatMessage[];
  systemPrompt: string | null;
  temperature: number;
  maxTokens: number;
  json: boolean;
  /** Whether the answer is shown while it comes. */
  streamed: boolean;
  signal: AbortSignal;
}

/** Makes the citation of a passage of the prompt, once the words of its sentences are known. */
type Quoting = (passage: Passage, index: number) => Promise<Citation>;

/** Answers that a chat model writes from passages, checked while they come. */
@Injectable()
export class GeneratedAnswerService {
  constructor(
    private readonly database: TenantDatabase,
    private readonly retrieval: RetrievalService,
    private readonly paidChat: PaidChatService,
  ) {}

  /**
   * @param draft with the passages that were found; becomes the answer
   * @throws Problem 402, 422, 429 before the first event · ModelError
   */
  async *answer(chat: ChatModel, draft: Answer, generation: Generation): AsyncGenerator<AnswerEvent, void> {
    if (draft.passages.length === 0) {
      yield { type: 'passages', passages: [] };
      decline(draft, generation.json);
      return;
    }
    const { temperature, json, signal } = generation;
    const prompt = buildPrompt({
      ...generation,
      passages: draft.passages,
      contextTokens: chat.contextTokens,
    });
    const options = {
      temperature,
      maxTokens: prompt.maxTokens,
      json,
      signal,
      whole: !generation.streamed || json,
    };
    const call = await this.paidChat.open(chat, prompt.messages, options, draft.usage);
    try {
      yield { type: 'passages', passages: draft.passages };
      const sources = [
        generation.question,
        generation.systemPrompt ?? '',
        ...prompt.passages.map(({ text }) => text),
      ];
      const reader = { mark: prompt.mark, sources };
      const quote = this.quoting(prompt.passages, generation.result);
      if (json) yield* this.readWhole(call, draft, prompt, reader, quote);
      else yield* this.readStream(call, draft, prompt, reader, quote);
    } finally {
      await call.close();
    }
  }

  private async *readStream(
    call: PaidCall,
    draft: Answer,
    prompt: Prompt,
    options: ReaderOptions,
    quote: Quoting,
  ): AsyncGenerator<AnswerEvent, void> {
    const numbers = numbersFor(prompt);
    const reader = new AnswerReader(numbers, options);
    const show = (pieces: AnswerPiece[]) => this.show(pieces, draft, prompt, quote);
    const deltas = call.deltas();
    let completion: ChatCompletion;
    try {
      let next = await deltas.next();
      for (; !next.done; next = await deltas.next()) {
        yield* show(reader.push(next.value));
        draft.removedCitations = numbers.removed;
      }
      completion = next.value;
    } finally {
      await deltas.return(undefined as never);
    }
    yield* show(reader.end());
    draft.removedCitations = numbers.removed;
    draft.model = completion.model;
    if (reader.declined) decline(draft, false);
    else draft.answered = true;
  }

  /** What is not JSON as a whole is shown to nobody. */
  private async *readWhole(
    call: PaidCall,
    draft: Answer,
    prompt: Prompt,
    options: ReaderOptions,
    quote: Quoting,
  ): AsyncGenerator<AnswerEvent, void> {
    const deltas = call.deltas();
    let reply = '';
    let next = await deltas.next();
    for (; !next.done; next = await deltas.next()) reply += next.value;
    const numbers = numbersFor(prompt);
    const read = readJsonAnswer(reply, numbers, options);
    if (!read)
      throw new ModelError(
        'model_rejected',
        'The chat model gave an answer that is not JSON, as was asked for.',
        false,
      );
    draft.model = next.value.model;
    draft.removedCitations = numbers.removed;
    if (read.declined) return decline(draft, true);
    const cited = numbers.cited.map(cites => ({ cites }));
    yield* this.show([...cited, { text: read.text }], draft, prompt, quote);
    draft.answered = true;
  }

  private async *show(
    pieces: readonly AnswerPiece[],
    draft: Answer,
    prompt: Prompt,
    quote: Quoting,
  ): AsyncGenerator<AnswerEvent, void> {
    for (const piece of pieces) {
      if ('text' in piece) {
        draft.answer += piece.text;
        yield { type: 'token', text: piece.text };
      } else {
        const { passage, index } = piece.cites;
        const citation = await quote(prompt.passages[passage] as Passage, index);
        draft.citations.push(citation);
        yield { type: 'citation', citation };
      }
    }
  }

  /** Looks at the words of the sentences while the model is thinking. */
  private quoting(passages: readonly Passage[], result: SearchResult): Quoting {
    const candidates = candidateSentences(passages);
    const texts = candidates.map(({ passage, quote }) => ({ kbId: passage.kb_id, text: quote }));
    const lexemes = this.database.run(tx => this.retrieval.lexemesOf(tx, texts));
    // Whoever cites nothing does not hear of it.
    lexemes.catch(() => undefined);
    const weights = termWeights(result);
    return async (passage, index) => citationOf(passage, index, candidates, await lexemes, weights);
  }
}

const numbersFor = ({ passages }: Prompt): CitationNumbers =>
  new CitationNumbers(passages.length, new CitationSupport(passages.map(({ text }) => text)));

function decline(draft: Answer, json: boolean): void {
  draft.answered = false;
  draft.answer = json ? JSON.stringify({ answer: NOT_FOUND }) : NOT_FOUND;
  draft.citations = [];
}
