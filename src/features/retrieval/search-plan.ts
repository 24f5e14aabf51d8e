import type { EmbeddingModel, RerankModel } from '../../core/models/model.js';
import type { ConfigOverrides, EffectiveConfig } from '../../core/tenancy/tenant-config.js';
import type { GraphPlan } from './graph-search.service.js';
import type { IndexState } from './large-candidates.repository.js';
import type { QuerySyntax } from './query-syntax.js';
import type { SearchFields } from './retrieval.dto.js';
import type { DocumentFilter } from './retrieval.repository.js';
import type { GraphUse } from './search-mode.js';

/** What the last search in a knowledge base has told of it: a guess, which the next one checks. */
export interface KbFacts {
  embeddingModel: string | null;
  config: EffectiveConfig;
  /** Of its own index, where it has one that is of use. */
  index: IndexState | null;
  /** Whether one statement was enough to search it. */
  oneStatement: boolean;
}

/** What one attempt at a search in a knowledge base works with. */
export interface KbPlan {
  reference: string;
  facts: KbFacts | undefined;
  model: EmbeddingModel | null;
  vector?: readonly number[] | undefined;
  /** What its graph is looked at for; null where it is not. */
  graph: GraphPlan | null;
}

/** What one attempt at a search works with. */
export interface Plan {
  kbs: KbPlan[];
  rerank: RerankModel | null;
  /** Whether there is one that cannot be used now. */
  rerankFailed: boolean;
  /** What decided on both. */
  config: EffectiveConfig;
}

/** Of one search, through all its attempts. */
export interface Search {
  request: SearchFields;
  use: GraphUse | null;
  signal: AbortSignal;
  syntax: QuerySyntax;
  filter: DocumentFilter | undefined;
  ofTenant: ConfigOverrides;
  withTerms: boolean;
  /** Whether nothing is asked of the database but one ranking. */
  alone: boolean;
  /** Tokens that models were given, by model. */
  embedded: Map<string, number>;
  /** Micro-credits that were paid on the way. */
  credits: number;
}

/** @param extended whether whoever searches asks for more in the same transaction */
export const isAlone = (
  { mmr, neighbours }: SearchFields,
  { prefixes }: QuerySyntax,
  kbReferences: readonly string[],
  extended: boolean,
): boolean =>
  !extended &&
  kbReferences.length === 1 &&
  prefixes.length === 0 &&
  mmr === undefined &&
  neighbours === undefined;
