import { Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { CreditsService } from '../../core/credits/credits.service.js';
import type { CreditLine } from '../../core/credits/price-list.js';
import type { EmbeddingModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import {
  type ConfigOverrides,
  type EffectiveConfig,
  effectiveConfig,
} from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { UsageService } from '../../core/usage/usage.service.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { Problem } from '../../foundation/http/problem.js';
import { withGraph } from './graph-fusion.js';
import { GraphSearch } from './graph-search.service.js';
import { type UsedGraph, usedOf } from './graph-spreading.js';
import { mergedResult } from './merged-ranking.js';
import { diversified, joined, spansOf } from './passage-selection.js';
import { type QuerySyntax, readQuery } from './query-syntax.js';
import { keywordShareOf, withProximity } from './proximity.js';
import { QueryVectors } from './query-vectors.service.js';
import { KEYWORD_TOKENS } from './question-keywords.js';
import { Reranking } from './reranking.service.js';
import { type SearchFields, shownScore, toFilter } from './retrieval.dto.js';
import {
  RetrievalRepository,
  type SearchParameters,
  type SearchResult,
  type SearchedKnowledgeBase,
} from './retrieval.repository.js';
import { type GraphUse, graphUseOf, legsOf } from './search-mode.js';
import { type KbFacts, type KbPlan, type Plan, type Search, isAlone } from './search-plan.js';
import { MOST_PASSAGES } from './search-statement.repository.js';

/** A knowledge base that was searched, and what holds in it. */
export interface SearchedKb {
  kb: SearchedKnowledgeBase;
  config: EffectiveConfig;
  /** The model of the query's vector there. */
  embeddingModel: string;
}

/** What was found. `kb`, `config` and `embeddingModel` are those of the first knowledge base that was searched. */
export interface Retrieved extends SearchedKb {
  kbs: SearchedKb[];
  /** The models of the cosines, by knowledge base. */
  models: ReadonlyMap<string, string>;
  /** One ranking; passages say by `kb_id` where they are from. */
  result: SearchResult;
  /** What was used of graphs; null where none was. */
  graph: UsedGraph | null;
  /** Whether a rerank model has ordered the passages. */
  reranked: boolean;
  /** Whether one was to, and could not. */
  rerankFailed: boolean;
  /** What was really used of {@link RetrievalService.costLines}, for the meter of whoever pays. */
  lines: CreditLine[];
  /** Micro-credits that the search has paid by itself: for keywords of the question, and for reranking. */
  credits: number;
}

/** What was found in one of the knowledge bases. */
interface SearchedPart extends SearchedKb {
  result: SearchResult;
  fusionWeight: number;
  /** Of its graph. */
  used: UsedGraph | null;
}

const KBS_REMEMBERED = 10_000;
/** A guess, and once more with what the knowledge base has told; another time where it has changed meanwhile. */
const MOST_ATTEMPTS = 3;
/** Passages that are put in order by how near words stand, however few are wanted: the order does not depend on that. */
const LEAST_RANKED = 10;
/** Passages that a rerank model is given, or that maximal marginal relevance chooses from, at least. */
const LEAST_CANDIDATES = 40;

@Injectable()
export class RetrievalService {
  private readonly facts = new LRUCache<string, KbFacts>({ max: KBS_REMEMBERED });
  private readonly configs = new LRUCache<
    string,
    { version: string; ofTenant: ConfigOverrides; config: EffectiveConfig }
  >({ max: KBS_REMEMBERED });

  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly repository: RetrievalRepository,
    private readonly models: ModelsService,
    private readonly vectors: QueryVectors,
    private readonly graphs: GraphSearch,
    private readonly reranking: Reranking,
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
      { operation: 'search', lines: await this.costLines(request, [kbReference]) },
      async meter => {
        const found = await this.search(kbReference, request, signal);
        meter.used(...found.retrieved.lines);
        return found;
      },
    );
    return { retrieved: result.retrieved, credits: credits + result.retrieved.credits };
  }

  /** What a search in these knowledge bases uses at most that may have a price, as far as is known before it. */
  async costLines(
    { query, mode }: SearchFields,
    kbReferences: readonly string[] = [],
  ): Promise<CreditLine[]> {
    if (mode === 'keyword') return [ASKED];
    const ofTenant = await this.tenantConfig();
    const models = await Promise.all(
      kbReferences.map(async reference => (await this.modelFor(this.factsOf(reference), ofTenant))?.name),
    );
    const asksForKeywords =
      graphUseOf(mode) !== null &&
      kbReferences.some(kb => (this.factsOf(kb)?.config ?? effectiveConfig(ofTenant)).graph === 'model');
    const quantity = estimateTokens(query) + (asksForKeywords ? KEYWORD_TOKENS : 0);
    return [
      ASKED,
      ...[...new Set(models)]
        .filter(model => model !== undefined)
        .map(model => ({ operation: 'embedding_tokens' as const, model, quantity })),
    ];
  }

  /**
   * The same for whoever pays for it as a part of something else.
   *
   * @param extend runs in a transaction of the tenant, with what was found
   * @throws Problem 404, 409 `embedding_model_changed` · ModelError
   */
  search<T = undefined>(
    kbReference: string,
    request: SearchFields,
    signal: AbortSignal,
    extend?: (tx: Tx, retrieved: Retrieved) => Promise<T>,
  ): Promise<{ retrieved: Retrieved; extended: T | undefined }> {
    return this.searchMany([kbReference], request, signal, extend);
  }

  /**
   * Searches several knowledge bases at once: each with its own embedding model and settings, one ranking. Whether the caller
   * may ask in each of them is for whoever calls this to find out; what they may not see is a 404 here.
   *
   * @param kbReferences ids or slugs, at least one
   * @param extend runs in a transaction of the tenant, with what was found
   * @throws Problem 404, 409 `embedding_model_changed` · ModelError
   */
  async searchMany<T = undefined>(
    kbReferences: readonly string[],
    request: SearchFields,
    signal: AbortSignal,
    extend?: (tx: Tx, retrieved: Retrieved) => Promise<T>,
  ): Promise<{ retrieved: Retrieved; extended: T | undefined }> {
    const use = graphUseOf(request.mode);
    const syntax = readQuery(request.query, request);
    const search: Search = {
      request,
      use,
      signal,
      syntax,
      filter: request.filter && toFilter(request.filter),
      ofTenant: await this.tenantConfig(),
      // Answering needs them, and answering is what extends a search; so does one ranking of several.
      withTerms: extend !== undefined || kbReferences.length > 1,
      alone: use === null && isAlone(request, syntax, kbReferences, extend !== undefined),
      embedded: new Map(),
      credits: 0,
    };
    for (let attempt = 1; ; attempt++) {
      // Before the transaction: none may stay open during a call of a model.
      const plan = await this.plan(kbReferences, search);
      const found = await this.database.run(async tx => {
        const retrieved = await this.attempt(tx, plan, search, attempt === MOST_ATTEMPTS);
        if (!retrieved || plan.rerank) return retrieved && { retrieved, extended: undefined };
        return this.finish(tx, retrieved, search, extend);
      });
      if (!found) continue;
      if (!plan.rerank) return found;
      const { retrieved } = found;
      const { result } = retrieved;
      const reranked = await this.reranking.rerank(plan.rerank, request.query, result.passages, signal);
      if (reranked) {
        result.passages = reranked.passages;
        retrieved.reranked = true;
        retrieved.credits += reranked.credits;
      } else retrieved.rerankFailed = true;
      return this.database.run(tx => this.finish(tx, retrieved, search, extend));
    }
  }

  /** How PostgreSQL sees the words of these texts. */
  lexemes(tx: Tx, kbId: string, texts: readonly string[]): Promise<string[][]> {
    return this.repository.lexemes(tx, kbId, texts);
  }

  /** The same for texts of several knowledge bases. */
  lexemesOf(tx: Tx, texts: ReadonlyArray<{ kbId: string; text: string }>): Promise<string[][]> {
    return this.repository.lexemesOf(tx, texts);
  }

  /** In memory, as a rule: the guard has looked the tenant up. */
  private async tenantConfig(): Promise<ConfigOverrides> {
    return (await this.directory.find(this.context.tenant.id))?.config ?? {};
  }

  private factsOf(reference: string): KbFacts | undefined {
    return this.facts.get(`${this.context.tenant.id} ${reference}`);
  }

  private modelFor(facts: KbFacts | undefined, ofTenant: ConfigOverrides): Promise<EmbeddingModel | null> {
    return this.models.embeddingOf(facts?.embeddingModel ?? ofTenant.embedding_model ?? null);
  }

  private async plan(references: readonly string[], search: Search): Promise<Plan> {
    const { request, use, signal, syntax, ofTenant } = search;
    const known = references.map(reference => ({ reference, facts: this.factsOf(reference), graph: null }));
    const config = (known.length === 1 ? known[0]?.facts?.config : undefined) ?? effectiveConfig(ofTenant);
    const { model: rerank, failed: rerankFailed } = await this.reranking.modelFor(request.rerank, config);
    if (request.mode === 'keyword')
      return { kbs: known.map(kb => ({ ...kb, model: null })), rerank, rerankFailed, config };
    const text = [syntax.text, ...syntax.prefixes].join(' ');
    const kbs: KbPlan[] = await Promise.all(
      known.map(async kb => {
        const model = await this.modelFor(kb.facts, ofTenant);
        return { ...kb, model, ...(model && { vector: await this.embedded(search, model, text) }) };
      }),
    );
    // One after the other: what one of them has asked a model for, the next one knows.
    for (const kb of use ? kbs : []) {
      kb.graph = await this.graphs.plan(use as GraphUse, kb.facts?.config ?? null, {
        question: request.query,
        embed: async what => kb.model && this.embedded(search, kb.model, what),
        signal,
      });
      search.credits += kb.graph.credits;
    }
    return { kbs, rerank, rerankFailed, config };
  }

  private async embedded(
    { embedded, signal }: Search,
    model: EmbeddingModel,
    text: string,
  ): Promise<readonly number[]> {
    const { vector, remembered } = await this.vectors.of(model, text, signal);
    if (remembered) return vector;
    const tokens = estimateTokens(text);
    embedded.set(model.name, (embedded.get(model.name) ?? 0) + tokens);
    this.usage.note({ model: model.name, embeddingTokens: tokens });
    return vector;
  }

  /** @returns null where a knowledge base is not what the plan took it for; what it is, is known then */
  private async attempt(tx: Tx, plan: Plan, search: Search, last: boolean): Promise<Retrieved | null> {
    const { request, use, ofTenant } = search;
    const mode = legsOf(request.mode);
    const searched: SearchedPart[] = [];
    let stale = false;
    for (const { reference, facts, model, vector, graph } of plan.kbs) {
      const fusionWeight = request.fusion_weight ?? model?.fusionWeight ?? 0;
      const parameters: SearchParameters = {
        kb: reference,
        query: await this.words(tx, reference, search.syntax),
        embedding: vector,
        mode,
        fusionWeight,
        topK: this.limit(plan, search),
        defaultTopK: effectiveConfig(ofTenant).top_k,
        // A threshold for passages is one for cosines where these are their scores.
        cosineThreshold: mode === 'vector' ? request.threshold : undefined,
        defaultCosineThreshold: effectiveConfig(ofTenant).cosine_threshold,
        filter: search.filter,
        fusion: request.fusion,
        feedback: request.feedback,
        phrases: search.syntax.phrases,
        withTerms: search.withTerms,
        index: facts?.index ?? null,
        alone: !last && search.alone && facts?.oneStatement,
      };
      const { kb, unfinished, ...found } = await this.repository.search(
        tx,
        use && graph ? this.graphs.first(use, graph, parameters) : parameters,
      );
      if (!kb) throw Problem.notFound('knowledge base');
      if (searched.some(other => other.kb.id === kb.id)) continue;
      const config = this.configOf(kb, ofTenant);
      this.facts.set(`${this.context.tenant.id} ${reference}`, {
        embeddingModel: kb.embedding_model,
        config,
        index: kb.index,
        oneStatement: !kb.partly_hidden,
      });
      stale ||= unfinished;
      if (mode !== 'keyword' && found.chunk_count > 0 && kb.embedding_model !== null) {
        if (model?.name !== kb.embedding_model) {
          if (last || (!model && facts?.embeddingModel === kb.embedding_model))
            throw modelGone(kb.embedding_model);
          stale = true;
        }
      }
      if (!last && plan.kbs.length === 1) stale ||= !sameReranking(request, plan.config, config);
      if (!last && graph) stale ||= !this.graphs.isOf(graph, config);
      const embeddingModel = model?.name ?? kb.embedding_model ?? '';
      const part = { kb, config, embeddingModel, fusionWeight };
      if (stale || !use || !graph || config.graph === 'off') {
        if (!use?.alone || config.graph !== 'off') searched.push({ ...part, result: found, used: null });
        continue;
      }
      const { result, used } = await this.graphs.extend(tx, {
        kbId: kb.id,
        use,
        plan: graph,
        question: search.syntax.text,
        base: found,
        parameters,
      });
      searched.push({ ...part, result, used });
    }
    if (stale) return null;
    if (searched.length === 0) throw graphOff();
    return this.retrieved(searched, plan, search);
  }

  private retrieved(searched: readonly SearchedPart[], plan: Plan, search: Search): Retrieved {
    const { request, use, embedded, syntax, credits } = search;
    const kbs = searched.map(({ kb, config, embeddingModel }) => ({ kb, config, embeddingModel }));
    const [first] = kbs as [SearchedKb];
    if (kbs.length === 1) this.usage.note({ kbId: first.kb.id });
    const mode = legsOf(request.mode);
    const byRank = request.fusion === 'rank';
    const merged = mergedResult(searched, { mode, byRank });
    const shares = new Map(
      searched.map(({ kb, fusionWeight }) => [kb.id, keywordShareOf(mode, fusionWeight)]),
    );
    let result = byRank ? merged : withProximity(merged, syntax.text, ({ kb_id }) => shares.get(kb_id) ?? 0);
    if (use) {
      result = withGraph(result, use.alone);
      // No more than a search without the graph finds: what follows may read each of them.
      const most = (this.limit(plan, search) ?? MOST_PASSAGES) * searched.length;
      result.passages = result.passages.slice(0, most);
    }
    return {
      ...first,
      kbs,
      models: new Map(kbs.map(({ kb, embeddingModel }) => [kb.id, embeddingModel])),
      result,
      graph: usedOf(searched.map(({ used }) => used)),
      reranked: false,
      rerankFailed: plan.rerankFailed,
      lines: [
        ASKED,
        ...[...embedded].map(([model, quantity]) => ({
          operation: 'embedding_tokens' as const,
          model,
          quantity,
        })),
      ],
      credits,
    };
  }

  /** Chooses among what was found: above the threshold, not all alike, as many as asked for, with their neighbours. */
  private async finish<T>(
    tx: Tx,
    retrieved: Retrieved,
    { request: { threshold, mmr, neighbours, top_k }, ofTenant }: Search,
    extend?: (tx: Tx, retrieved: Retrieved) => Promise<T>,
  ): Promise<{ retrieved: Retrieved; extended: T | undefined }> {
    const { result, reranked } = retrieved;
    const config = retrieved.kbs.length === 1 ? retrieved.config : effectiveConfig(ofTenant);
    const count = top_k ?? (reranked ? Math.min(config.top_k, config.chunk_top_k) : config.top_k);
    let { passages } = result;
    if (threshold !== undefined) passages = passages.filter(({ score }) => shownScore(score) >= threshold);
    if (mmr !== undefined && passages.length > 1) {
      const ids = passages.map(({ chunk_id }) => chunk_id);
      passages = diversified(passages, await this.repository.similarities(tx, ids), mmr, count);
    }
    passages = passages.slice(0, count);
    if (neighbours !== undefined && passages.length > 0) {
      const chunks = await this.repository.chunksIn(tx, spansOf(passages, neighbours));
      passages = joined(passages, neighbours, chunks);
    }
    result.passages = passages;
    return { retrieved, extended: await extend?.(tx, retrieved) };
  }

  /** The query's words, with those that its beginnings stand for. */
  private async words(tx: Tx, reference: string, { text, prefixes }: QuerySyntax): Promise<string> {
    if (prefixes.length === 0) return text;
    return [text, ...(await this.repository.wordsBeginning(tx, reference, prefixes))].join(' ');
  }

  /** How many passages to ask the database for: more than are wanted where they are chosen from, or put in order. */
  private limit({ kbs, rerank, config }: Plan, { request: { top_k, mmr }, use }: Search): number | undefined {
    const [only] = kbs;
    const single = kbs.length === 1;
    const wanted = top_k ?? (single ? only?.facts?.config.top_k : config.top_k);
    if (!rerank && mmr === undefined && single && !use) {
      // Not known yet: the statement takes what is configured.
      return wanted === undefined ? undefined : Math.max(wanted, LEAST_RANKED);
    }
    return Math.min(Math.max(2 * (wanted ?? config.top_k), LEAST_CANDIDATES), MOST_PASSAGES);
  }

  /** Worked out once for a version of both. */
  private configOf(kb: SearchedKnowledgeBase, ofTenant: ConfigOverrides): EffectiveConfig {
    const known = this.configs.get(kb.id);
    if (known && known.version === kb.version && known.ofTenant === ofTenant) return known.config;
    const config = effectiveConfig(ofTenant, kb.config);
    this.configs.set(kb.id, { version: kb.version, ofTenant, config });
    return config;
  }
}

const ASKED: CreditLine = { operation: 'query', quantity: 1 };

/** Whether what a plan took for a knowledge base's settings of reranking is what they are, as far as they count. */
const sameReranking = ({ rerank }: SearchFields, planned: EffectiveConfig, real: EffectiveConfig): boolean =>
  typeof rerank === 'string' ||
  rerank === false ||
  ((rerank === true || planned.enable_rerank === real.enable_rerank) &&
    planned.rerank_model === real.rerank_model);

const graphOff = (): Problem =>
  new Problem(
    422,
    'graph_off',
    'No knowledge base that is asked has a graph: its setting `graph` is off. Mode "mix" works without one, and so do ' +
      '"hybrid", "vector" and "keyword".',
  );

/** Vectors of two models say nothing about each other, even where their dimensions agree. */
const modelGone = (model: string): Problem =>
  Problem.conflict(
    'embedding_model_changed',
    `The vectors of this knowledge base are of the model ${model}, which is not there any more: it has to be re-indexed. ` +
      'Searching with mode "keyword" works.',
  );
