import { Injectable } from '@nestjs/common';
import type { EffectiveConfig } from '../../core/tenancy/tenant-config.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { weightsOfMeant, weightsOfMentioned } from './graph-seeds.js';
import { GraphSearchRepository } from './graph-search.repository.js';
import { type Subgraph, type UsedGraph, spread } from './graph-spreading.js';
import type { QuestionKeywords } from './question-keywords.js';
import { QuestionKeywordsService } from './question-keywords.service.js';
import { type QuestionNames, namesIn } from './question-names.js';
import { RetrievalRepository, type SearchParameters, type SearchResult } from './retrieval.repository.js';
import type { GraphUse } from './search-mode.js';
import { MOST_PASSAGES } from './search-statement.repository.js';

/** What graphs are looked at for: keywords, or the question itself. */
export interface GraphPlan {
  /** What decided on it; null where nothing was known. */
  config: GraphConfig | null;
  keywords: QuestionKeywords | null;
  /** Vectors of the keywords, as far as they are needed. */
  names: readonly number[] | undefined;
  themes: readonly number[] | undefined;
  /** Micro-credits that the keywords cost. */
  credits: number;
}

type GraphConfig = Pick<EffectiveConfig, 'graph' | 'graph_model' | 'llm_model'>;

/** A search whose passages the graph adds to, or takes the place of. */
export interface GraphSearched {
  kbId: string;
  use: GraphUse;
  plan: GraphPlan;
  question: string;
  /** What a search by {@link GraphSearch.first} has found. */
  base: SearchResult;
  /** How passages are to be searched for, those that the graph leads to among them. */
  parameters: SearchParameters;
}

/** Passages whose relations are looked at. */
const THEME_PASSAGES = 20;
/** Least cosine of a question and the name of an entity that it may mean without naming it. */
const LEAST_COSINE = 0.5;
/**
 * What the themes of a question count where its names do, too: without any name that is known, and beside a certain one. There
 * are always passages about the themes; what a name leads to in two steps must not vanish behind them.
 */
const OF_THEMES = { alone: 0.5, besideNames: 0.05 };

const NOTHING: UsedGraph = { entities: [], relations: [] };

/** Passages that the graph of a knowledge base leads to. */
@Injectable()
export class GraphSearch {
  constructor(
    private readonly graph: GraphSearchRepository,
    private readonly retrieval: RetrievalRepository,
    private readonly keywords: QuestionKeywordsService,
  ) {}

  /**
   * Finds out what to look for. Where a chat model makes the graph, it is asked for keywords of the question: its entities
   * have names that the question may not say, and are about themes.
   *
   * @param config null where the knowledge base is not known yet: no model is paid for on a guess
   * @param embed gives the vector of a text, where there is a model for it
   * @throws Problem 402, 429 · ModelError · the signal's reason
   */
  async plan(
    use: GraphUse,
    config: GraphConfig | null,
    {
      question,
      embed,
      signal,
    }: {
      question: string;
      embed: (text: string) => Promise<readonly number[] | null>;
      signal: AbortSignal;
    },
  ): Promise<GraphPlan> {
    const plan = { config, keywords: null, names: undefined, themes: undefined, credits: 0 };
    if (config?.graph !== 'model') return plan;
    const { keywords, credits } = await this.keywords.of(question, config, signal);
    const vectorOf = async (texts: readonly string[] | undefined) =>
      texts?.length ? ((await embed(texts.join(', '))) ?? undefined) : undefined;
    const names = await vectorOf(use.names ? keywords?.names : undefined);
    const themes = await vectorOf(use.alone && use.themes ? keywords?.themes : undefined);
    return { config, keywords, names, themes, credits };
  }

  /** Whether a plan is one for a knowledge base with these settings. */
  isOf({ config }: GraphPlan, real: GraphConfig): boolean {
    if (real.graph !== 'model') return config?.graph !== 'model';
    return config?.graph === 'model' && modelOf(config) === modelOf(real);
  }

  /** The search that the graph is gone into from: for the question's themes, where only the graph is to find. */
  first(use: GraphUse, { keywords, themes }: GraphPlan, parameters: SearchParameters): SearchParameters {
    if (!use.alone || !use.themes || !keywords?.themes.length) return parameters;
    return {
      ...parameters,
      query: keywords.themes.join(', '),
      embedding: themes ?? parameters.embedding,
    };
  }

  /**
   * Puts to each passage how close the graph brings it (0-1), and adds those that it leads to. Scores stay those of the
   * legs: `withGraph` puts the two together.
   *
   * @returns also what of the graph has been used, as far as whoever asks may see it
   */
  async extend(tx: Tx, searched: GraphSearched): Promise<{ result: SearchResult; used: UsedGraph }> {
    const { use, base, parameters } = searched;
    const { closeness, used } = await this.closeness(tx, searched);
    const chosen = [...closeness]
      .toSorted(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
      .slice(0, MOST_PASSAGES)
      .map(([chunk]) => chunk);
    const known = new Map(use.alone ? [] : base.passages.map(passage => [passage.chunk_id, passage]));
    const missing = chosen.filter(chunk => !known.has(chunk));
    const { kb: _, ...found } =
      missing.length === 0 && !use.alone
        ? { ...base, passages: [], kb: null }
        : await this.retrieval.search(tx, {
            ...parameters,
            chunkIds: missing,
            topK: Math.max(1, missing.length),
            // Ranks say nothing among passages that no leg has chosen, nor does a query that is widened by the best of them.
            fusion: 'score',
            feedback: false,
            index: null,
          });
    const byRank = parameters.fusion === 'rank';
    const passages = [
      ...known.values(),
      ...found.passages.map(passage => (byRank && !use.alone ? { ...passage, score: 0 } : passage)),
    ];
    return {
      result: {
        ...found,
        passages: passages.map(passage => ({ ...passage, graph: closeness.get(passage.chunk_id) ?? 0 })),
      },
      used,
    };
  }

  /** Of chunks, by their ids. */
  private async closeness(
    tx: Tx,
    { kbId, use, plan, question, base, parameters }: GraphSearched,
  ): Promise<{ closeness: Map<string, number>; used: UsedGraph }> {
    const names = namesOf([question, ...(plan.keywords?.names ?? [])]);
    const vector = plan.names ?? parameters.embedding;
    const meant = use.names
      ? weightsOfMeant(await this.graph.entitiesMeant(tx, kbId, names, vector, LEAST_COSINE))
      : new Map<string, number>();
    const about = base.passages.slice(0, THEME_PASSAGES);
    const mentioned = use.themes
      ? weightsOfMentioned(
          await this.graph.relationsMentioned(
            tx,
            kbId,
            about.map(({ chunk_id }) => chunk_id),
          ),
          new Map(about.map(({ chunk_id, score }) => [chunk_id, Math.max(0, score)])),
          namesOf([question, ...(plan.keywords?.themes ?? [])]).words,
        )
      : new Map<string, number>();
    const seeds = new Map(meant);
    const named = Math.max(0, ...meant.values());
    const ofThemes = OF_THEMES.alone * (1 - named) + OF_THEMES.besideNames * named;
    for (const [id, weight] of mentioned) {
      seeds.set(id, Math.max(seeds.get(id) ?? 0, (use.names ? ofThemes : 1) * weight));
    }
    if (seeds.size === 0) return { closeness: new Map(), used: NOTHING };
    const subgraph = await this.graph.around(
      tx,
      kbId,
      [...seeds.keys()],
      base.passages.map(({ chunk_id }) => chunk_id),
      parameters.filter,
    );
    const { chunks, used } = spread(subgraph, bySpecificity(seeds, subgraph));
    // As sure as the surest seed: where the question names nothing, the best passage is no certain one either.
    const surest = Math.max(...seeds.values());
    return { closeness: new Map([...chunks].map(([chunk, share]) => [chunk, share * surest])), used };
  }
}

/** What is mentioned in a few chunks says more about where to look than what is mentioned in many. */
function bySpecificity(seeds: ReadonlyMap<string, number>, { entities }: Subgraph): Map<string, number> {
  const mentions = new Map(entities.map(entity => [entity.id, entity.mentions]));
  return new Map([...seeds].map(([id, weight]) => [id, weight / (1 + Math.log(mentions.get(id) ?? 1))]));
}

const modelOf = ({ graph_model, llm_model }: GraphConfig): string | null => graph_model ?? llm_model;

function namesOf(texts: readonly string[]): QuestionNames {
  const all = texts.map(namesIn);
  return {
    keys: [...new Set(all.flatMap(({ keys }) => keys))],
    words: [...new Set(all.flatMap(({ words }) => words))],
  };
}
