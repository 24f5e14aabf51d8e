import type { SearchMode } from '../retrieval/search-mode.js';

/** What an agent may search with. */
export const AGENT_TOOLS = ['vector_search', 'keyword_search', 'hybrid_search', 'graph_search'] as const;
export type AgentTool = (typeof AGENT_TOOLS)[number];

export const MODE_OF_TOOL: Record<AgentTool, SearchMode> = {
  vector_search: 'vector',
  keyword_search: 'keyword',
  hybrid_search: 'hybrid',
  graph_search: 'graph',
};

/** How far an agent goes for one answer. */
export interface AgentToolConfig {
  /** Calls of the chat model at most; the last one has to answer. */
  max_steps: number;
  /** Passages of one search. */
  top_k: number;
  /** Micro-credits; null: what its caller may spend. */
  max_credits: number | null;
}

/** Who answers questions about a knowledge base, and how. Agents of one knowledge base share what is in it. */
export interface Agent {
  id: string;
  kbId: string;
  name: string;
  slug: string;
  description: string;
  /** Null, of this and the next three: as in the knowledge base. */
  systemPrompt: string | null;
  model: string | null;
  temperature: number | null;
  maxTokens: number | null;
  /** Without any, it answers from what one search for the question finds. */
  enabledTools: readonly AgentTool[];
  toolConfig: AgentToolConfig;
  isActive: boolean;
  createdBy: string | null;
  createdAt: Date;
  updatedAt: Date;
}

/** How the knowledge base is searched where no model chooses: with all at once where the agent has several tools. */
export function modeOf({ enabledTools }: Pick<Agent, 'enabledTools'>): SearchMode {
  const [only, ...others] = new Set(enabledTools);
  if (only === undefined) return 'hybrid';
  if (others.length === 0) return MODE_OF_TOOL[only];
  return enabledTools.includes('graph_search') ? 'mix' : 'hybrid';
}
