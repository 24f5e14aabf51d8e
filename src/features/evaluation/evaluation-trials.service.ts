import { Injectable } from '@nestjs/common';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Answer } from '../rag-query/answer-events.js';
import { RagQueryService } from '../rag-query/rag-query.service.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import { RetrievalService } from '../retrieval/retrieval.service.js';
import type { EvaluationQuestion, EvaluationVariant, Outcome } from './evaluation.js';
import { EvaluationsRepository } from './evaluations.repository.js';
import { Judgement } from './judgement.js';
import { normalisedGainAt, recallAt, reciprocalRankAt } from './metrics.js';

/** Passages that an outcome names. */
const PASSAGES_KEPT = 10;

/** What was found, and what it took. */
interface Trial {
  passages: readonly Passage[];
  answer: Answer | null;
  credits: number;
}

/** Asks a question in one of the ways that are compared, as whoever acts, and judges what comes. */
@Injectable()
export class EvaluationTrials {
  constructor(
    private readonly database: TenantDatabase,
    private readonly retrieval: RetrievalService,
    private readonly ragQuery: RagQueryService,
    private readonly evaluations: EvaluationsRepository,
  ) {}

  /** @throws what a search or a question throws */
  async run(
    kbId: string,
    question: EvaluationQuestion,
    variant: EvaluationVariant,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const started = performance.now();
    const { passages, answer, credits } = await this.ask(kbId, question, variant, signal);
    const latency = performance.now() - started;
    const judgement = await this.judgementOf(question, passages);
    return {
      passages: passages
        .slice(0, PASSAGES_KEPT)
        .map(({ document_id, chunk_id }) => ({ document_id, chunk_id })),
      ranking: rankingOf(judgement, passages),
      answer: answer && answerOf(judgement, question, answer),
      latency,
      credits,
      error: null,
    };
  }

  private async ask(
    kbId: string,
    { question: query }: EvaluationQuestion,
    { name: _name, answer: isAnswered, ...settings }: EvaluationVariant,
    signal: AbortSignal,
  ): Promise<Trial> {
    if (!isAnswered) {
      const { retrieved, credits } = await this.retrieval.paidSearch(kbId, { ...settings, query }, signal);
      return { passages: retrieved.result.passages, answer: null, credits };
    }
    // An answer that was remembered would be as good, and as quick, as that of other settings was.
    const answer = await this.ragQuery.ask([kbId], { ...settings, query, uncached: true }, signal);
    return { passages: answer.passages, answer, credits: answer.usage.credits };
  }

  private async judgementOf(question: EvaluationQuestion, passages: readonly Passage[]): Promise<Judgement> {
    const names = question.relevant.some(({ source }) => source !== undefined);
    const ids = [...new Set(passages.map(({ document_id }) => document_id))];
    const sources =
      names && ids.length > 0
        ? await this.database.run(tx => this.evaluations.sourcesOf(tx, ids))
        : new Map<string, string[]>();
    return new Judgement(question, sources);
  }
}

function rankingOf(judgement: Judgement, passages: readonly Passage[]): Outcome['ranking'] {
  const { relevant } = judgement;
  if (relevant === 0) return null;
  const found = judgement.found(passages);
  return {
    recall_at_5: recallAt(found, relevant, 5),
    recall_at_10: recallAt(found, relevant, 10),
    recall: recallAt(found, relevant),
    mrr_at_10: reciprocalRankAt(found, 10),
    ndcg_at_10: normalisedGainAt(found, relevant, 10),
  };
}

function answerOf(judgement: Judgement, question: EvaluationQuestion, answer: Answer): Outcome['answer'] {
  const { answered, citations, passages, model } = answer;
  const cited = citations.map(({ chunk_id }) => passages.find(passage => passage.chunk_id === chunk_id));
  const isJudged = judgement.relevant > 0;
  const hasGold = question.answers.length > 0 && question.answerable !== false;
  return {
    answered,
    holds_gold: hasGold ? answered && judgement.holdsAnswer(answer.answer) : null,
    citations: citations.length,
    right_citations: isJudged
      ? cited.filter(passage => passage !== undefined && judgement.supports(passage)).length
      : null,
    model,
  };
}
