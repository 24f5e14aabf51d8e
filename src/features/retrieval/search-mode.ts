import type { RetrievalMode } from './retrieval.repository.js';

/** How a search may be done, as requests name it. `naive`, `local`, `global` and `mix` are called so by LightRAG. */
export const SEARCH_MODES = [
  'hybrid',
  'vector',
  'keyword',
  'naive',
  'local',
  'global',
  'graph',
  'mix',
] as const;
export type SearchMode = (typeof SEARCH_MODES)[number];

/** What a mode makes of the graph of a knowledge base. */
export interface GraphUse {
  /** Goes out from the entities that the question names. */
  names: boolean;
  /** Goes out from the relations in those passages that are about what the question is about. */
  themes: boolean;
  /** Whether only what the graph leads to is found; else it is added to a hybrid search. */
  alone: boolean;
}

const GRAPH_USE: { readonly [Mode in SearchMode]?: GraphUse } = {
  local: { names: true, themes: false, alone: true },
  global: { names: false, themes: true, alone: true },
  graph: { names: true, themes: true, alone: true },
  mix: { names: true, themes: true, alone: false },
};

/** Null where the graph is not looked at. */
export const graphUseOf = (mode: SearchMode): GraphUse | null => GRAPH_USE[mode] ?? null;

/** The legs that a mode stands on, or is compared with. */
export function legsOf(mode: SearchMode): RetrievalMode {
  if (mode === 'keyword') return 'keyword';
  return mode === 'vector' || mode === 'naive' ? 'vector' : 'hybrid';
}
