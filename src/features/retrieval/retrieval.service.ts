import { Injectable } from '@nestjs/common';
import { CreditsService } from '../../core/credits/credits.service.js';
import type { CreditLine } from '../../core/credits/price-list.js';
import type { EmbeddingModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { type EffectiveConfig, effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { UsageService } from '../../core/usage/usage.service.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { type SearchFields, shownScore } from './retrieval.dto.js';
import {
  RetrievalRepository,
  type SearchResult,
  type SearchedKnowledgeBase,
} from './retrieval.repository.js';

export interface Retrieved {
  kb: SearchedKnowledgeBase;
  config: EffectiveConfig;
  result: SearchResult;
  embeddingModel: string;
}

@Injectable()
export class RetrievalService {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly repository: RetrievalRepository,
    private readonly models: ModelsService,
    private readonly usage: UsageService,
    private readonly credits: CreditsService,
  ) {}

  /**
   * Ranks the chunks of one knowledge base, and has that paid for.
   *
   * @returns what was found, and what it cost in micro-credits
   * @throws Problem 402, 404, 409 `embedding_model_changed` · ModelError
   */
  async paidSearch(
    kbReference: string,
    request: SearchFields,
    signal: AbortSignal,
  ): Promise<{ retrieved: Retrieved; credits: number }> {
    const { result, credits } = await this.credits.spend(
      { operation: 'search', lines: this.costLines(request) },
      () => this.search(kbReference, request, signal),
    );
    return { retrieved: result.retrieved, credits };
  }

  /** What a search uses that may have a price. */
  costLines({ query, mode }: SearchFields): CreditLine[] {
    const asked: CreditLine = { operation: 'query', quantity: 1 };
    if (mode === 'keyword') return [asked];
    const { name: model } = this.models.embedding();
    return [asked, { operation: 'embedding_tokens', model, quantity: estimateTokens(query) }];
  }

  /**
   * The same for whoever pays for it as a part of something else.
   *
   * @param extend runs in the same transaction, with what was found
   * @throws Problem 404, 409 `embedding_model_changed` · ModelError
   */
  async search<T = undefined>(
    kbReference: string,
    request: SearchFields,
    signal: AbortSignal,
    extend?: (tx: Tx, retrieved: Retrieved) => Promise<T>,
  ): Promise<{ retrieved: Retrieved; extended: T | undefined }> {
    const model = this.models.embedding();
    // Before the transaction: none may stay open during a call of a model.
    const embedding =
      request.mode === 'keyword' ? undefined : await model.embedQuery(request.query, { signal });
    if (embedding) this.usage.note({ model: model.name, embeddingTokens: estimateTokens(request.query) });
    // In memory, as a rule: the guard has looked the tenant up.
    const ofTenant = (await this.directory.find(this.context.tenant.id))?.config ?? {};
    return this.database.run(async tx => {
      const { kb, ...result } = await this.repository.search(tx, {
        kb: kbReference,
        query: request.query,
        embedding,
        mode: request.mode,
        fusionWeight: model.fusionWeight,
        topK: request.top_k,
        defaultTopK: effectiveConfig(ofTenant).top_k,
        filter: toFilter(request.filter),
        // Answering needs them, and answering is what extends a search.
        withTerms: extend !== undefined,
      });
      if (!kb) throw Problem.notFound('knowledge base');
      this.usage.note({ kbId: kb.id });
      requireSameModel(kb, result.chunk_count, model, request.mode);
      const threshold = request.threshold;
      if (threshold !== undefined)
        result.passages = result.passages.filter(({ score }) => shownScore(score) >= threshold);
      const retrieved = {
        kb,
        config: effectiveConfig(ofTenant, kb.config),
        result,
        embeddingModel: model.name,
      };
      return { retrieved, extended: await extend?.(tx, retrieved) };
    });
  }

  /** How PostgreSQL sees the words of these texts. */
  lexemes(tx: Tx, kbId: string, texts: readonly string[]): Promise<string[][]> {
    return this.repository.lexemes(tx, kbId, texts);
  }
}

/** Vectors of two models say nothing about each other, even where their dimensions agree. */
function requireSameModel(
  kb: SearchedKnowledgeBase,
  chunkCount: number,
  model: EmbeddingModel,
  mode: SearchFields['mode'],
): void {
  if (
    mode === 'keyword' ||
    chunkCount === 0 ||
    kb.embedding_model === null ||
    kb.embedding_model === model.name
  )
    return;
  throw Problem.conflict(
    'embedding_model_changed',
    `The vectors of this knowledge base are of the model ${kb.embedding_model}; it has to be re-indexed for ${model.name}. ` +
      'Searching with mode "keyword" works.',
  );
}

function toFilter(filter: SearchFields['filter']) {
  return (
    filter && {
      documentIds: filter.document_ids,
      createdAfter: filter.created_after ? new Date(filter.created_after) : undefined,
      createdBefore: filter.created_before ? new Date(filter.created_before) : undefined,
      metadata: filter.metadata,
    }
  );
}
