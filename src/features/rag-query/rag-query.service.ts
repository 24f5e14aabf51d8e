import { Injectable } from '@nestjs/common';
import type { ChatModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { ANSWER_PASSAGES, termWeights } from '../retrieval/ranking.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import { type Retrieved, RetrievalService } from '../retrieval/retrieval.service.js';
import { type Candidate, NOT_FOUND, candidateSentences, extractiveAnswer } from './extractive-answer.js';
import { buildPrompt, passagesForPrompt, readAnswer } from './generated-answer.js';
import type { Citation, QueryRequest } from './rag-query.dto.js';

export interface Answer {
  answered: boolean;
  answer: string;
  citations: Citation[];
  kbId: string;
  passages: Passage[];
  usage: { promptTokens: number; completionTokens: number };
  model: string;
  /** Milliseconds. */
  latency: { retrieval: number; generation: number };
}

/** What both ways of answering rest on. */
interface Evidence {
  passages: Passage[];
  candidates: Candidate[];
  lexemes: string[][];
}

const EXTRACTIVE = 'extractive';

/** Answers with citations: quoted sentences, or what a chat model makes of the passages where one is set. */
@Injectable()
export class RagQueryService {
  constructor(
    private readonly retrieval: RetrievalService,
    private readonly models: ModelsService,
    private readonly features: FeaturesService,
  ) {}

  /** @throws Problem 404, 409 `embedding_model_changed` · ModelError */
  async ask(kbReference: string, request: QueryRequest, signal: AbortSignal): Promise<Answer> {
    const started = performance.now();
    const chat = (await this.features.get('generated_answers')) ? this.models.chat() : null;
    const { retrieved, extended: evidence } = await this.retrieval.search(
      kbReference,
      request,
      signal,
      async (tx, { kb, result }): Promise<Evidence> => {
        const passages = chat
          ? passagesForPrompt(result.passages)
          : result.passages.slice(0, ANSWER_PASSAGES);
        const candidates = candidateSentences(passages);
        const lexemes = await this.retrieval.lexemes(
          tx,
          kb.id,
          candidates.map(({ quote }) => quote),
        );
        return { passages, candidates, lexemes };
      },
    );
    const found = performance.now();
    const generated = await this.answer(chat, request, retrieved, evidence as Evidence, signal);
    return {
      ...generated,
      kbId: retrieved.kb.id,
      passages: retrieved.result.passages,
      latency: { retrieval: found - started, generation: performance.now() - found },
    };
  }

  private async answer(
    chat: ChatModel | null,
    request: QueryRequest,
    { config, result, embeddingModel }: Retrieved,
    { passages, candidates, lexemes }: Evidence,
    signal: AbortSignal,
  ): Promise<Pick<Answer, 'answered' | 'answer' | 'citations' | 'usage' | 'model'>> {
    const usage = { promptTokens: 0, completionTokens: 0 };
    if (!chat)
      return { ...extractiveAnswer(result, candidates, lexemes, embeddingModel), usage, model: EXTRACTIVE };
    const model = config.llm_model ?? chat.name;
    if (passages.length === 0) return { answered: false, answer: NOT_FOUND, citations: [], usage, model };
    const prompt = buildPrompt(request.query, passages, request.system_prompt ?? config.system_prompt);
    const { text, promptTokens, completionTokens } = await chat.complete(prompt, {
      model,
      temperature: request.temperature ?? config.llm_temperature,
      maxTokens: request.max_tokens ?? config.llm_max_tokens,
      signal,
    });
    return {
      ...readAnswer(text, passages, candidates, lexemes, termWeights(result)),
      usage: { promptTokens, completionTokens },
      model,
    };
  }
}
