import { Injectable, Logger } from '@nestjs/common';
import { CreditsService } from '../../core/credits/credits.service.js';
import { ModelError, type RerankModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import type { EffectiveConfig } from '../../core/tenancy/tenant-config.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { Problem } from '../../foundation/http/problem.js';
import type { Passage } from './retrieval.repository.js';

/** Has passages ordered anew by a rerank model. */
@Injectable()
export class Reranking {
  private readonly logger = new Logger(Reranking.name);

  constructor(
    private readonly models: ModelsService,
    private readonly usage: UsageService,
    private readonly credits: CreditsService,
  ) {}

  /**
   * @param asked by the request: whether, or which model
   * @returns the model to ask; null where none is wanted, or none is there; `failed` where one is that cannot be used now
   * @throws Problem 409 `unknown_model` where the request names one that is not there
   */
  async modelFor(
    asked: boolean | string | undefined,
    { enable_rerank, rerank_model }: Pick<EffectiveConfig, 'enable_rerank' | 'rerank_model'>,
  ): Promise<{ model: RerankModel | null; failed: boolean }> {
    const named = typeof asked === 'string';
    if (!named && !(asked ?? enable_rerank)) return { model: null, failed: false };
    try {
      const model = await this.models.rerank(named ? asked : rerank_model);
      if (!model && named)
        throw Problem.conflict('unknown_model', `There is no rerank model "${asked}" that can be used.`);
      return { model, failed: false };
    } catch (error) {
      // A model that was configured and cannot be reached any more is no reason to find nothing.
      if (!(error instanceof ModelError)) throw error;
      this.logger.warn({ msg: 'Passages are not reranked', model: asked ?? rerank_model, code: error.code });
      return { model: null, failed: true };
    }
  }

  /**
   * Pays for itself: nothing where the model fails.
   *
   * @param passages those that may be kept
   * @returns them with the model's scores, best first, and micro-credits; null where the model has failed
   * @throws Problem 402
   */
  async rerank(
    model: RerankModel,
    query: string,
    passages: readonly Passage[],
    signal: AbortSignal,
  ): Promise<{ passages: Passage[]; credits: number } | null> {
    if (passages.length === 0) return { passages: [], credits: 0 };
    const texts = passages.map(({ heading, text }) => (heading ? `${heading}\n${text}` : text));
    const tokens = texts.reduce((sum, text) => sum + estimateTokens(query) + estimateTokens(text), 0);
    try {
      const { result: relevance, credits } = await this.credits.spend(
        {
          operation: 'rerank',
          lines: [{ operation: 'input_tokens', model: model.name, quantity: tokens }],
        },
        () => model.rerank(query, texts, { signal }),
      );
      this.usage.note({ model: model.name, inputTokens: tokens });
      const ordered = passages.map((passage, i) => {
        const score = relevance[i] ?? 0;
        return { ...passage, rerank: score, score };
      });
      return { passages: ordered.toSorted((a, b) => b.score - a.score), credits };
    } catch (error) {
      if (!(error instanceof ModelError)) throw error;
      this.logger.warn({ msg: 'Passages are not reranked', model: model.name, code: error.code });
      return null;
    }
  }
}
