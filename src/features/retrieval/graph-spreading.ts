/** An entity as whoever asks sees it. */
export interface GraphEntity {
  id: string;
  /** As most of its mentions spell it. */
  name: string;
  type: string;
}

export interface GraphRelation {
  source: GraphEntity;
  target: GraphEntity;
  type: string;
}

/** What a search has made of a graph, the most important first. */
export interface UsedGraph {
  entities: GraphEntity[];
  relations: GraphRelation[];
}

/** The part of a graph around what a question is about. */
export interface Subgraph {
  entities: ReadonlyArray<
    GraphEntity & {
      /** Chunks that mention it; up to a bound. */
      mentions: number;
      /** Some of them, those that count among them. */
      chunks: readonly string[];
    }
  >;
  relations: ReadonlyArray<{
    id: string;
    source: string;
    target: string;
    type: string;
    /** Sum over its mentions. */
    weight: number;
  }>;
}

/** Where the walk begins: weights (above 0) of entities, by id. */
export type Seeds = ReadonlyMap<string, number>;

/** Of several graphs together; null where none was used. */
export function usedOf(graphs: ReadonlyArray<UsedGraph | null>): UsedGraph | null {
  const used = graphs.filter(graph => graph !== null);
  if (used.length === 0) return null;
  return {
    entities: used.flatMap(({ entities }) => entities),
    relations: used.flatMap(({ relations }) => relations),
  };
}

/** Probability that the walk goes on instead of beginning anew; 0.5 as in HippoRAG, which keeps it near its seeds. */
const DAMPING = 0.5;
const MOST_ROUNDS = 30;
/** A round that moves less than this changes no ranking. */
const SETTLED = 1e-7;
/** Share of an entity's mass that goes to the chunks which mention it; the rest goes to its neighbours. */
const TO_CHUNKS = 0.5;

const MOST_SHOWN = 20;

interface Edge {
  to: number;
  share: number;
}

/**
 * How close each chunk is to the seeds: personalised PageRank (Haveliwala 2002) over entities and the chunks that mention
 * them, as HippoRAG (Gutiérrez et al. 2024) ranks passages. From an entity the walk goes to entities that it has to do
 * with, by the weight of their relation, and to the chunks that mention it, evenly, so that what is mentioned everywhere
 * brings each of them little; from a chunk to the entities that it mentions.
 *
 * @returns shares of the best chunk (0-1), by id; and what of the graph has led there
 */
export function spread(
  { entities, relations }: Subgraph,
  seeds: Seeds,
): {
  chunks: Map<string, number>;
  used: UsedGraph;
} {
  const entityAt = new Map(entities.map(({ id }, index) => [id, index]));
  const chunkAt = new Map<string, number>();
  for (const { chunks } of entities) {
    for (const chunk of chunks) if (!chunkAt.has(chunk)) chunkAt.set(chunk, entities.length + chunkAt.size);
  }
  const ends = relations.flatMap(relation => {
    const source = entityAt.get(relation.source);
    const target = entityAt.get(relation.target);
    return source === undefined || target === undefined ? [] : [{ relation, source, target }];
  });
  const edges = edgesOf(entities, chunkAt, ends);
  const mass = walk(edges, restart(entities, seeds));

  const best = Math.max(...[...chunkAt.values()].map(index => mass[index] ?? 0), Number.MIN_VALUE);
  const chunks = new Map<string, number>();
  for (const [chunk, index] of chunkAt) {
    const share = (mass[index] ?? 0) / best;
    if (share > 0) chunks.set(chunk, share);
  }
  return { chunks, used: mostUsed(entities, ends, mass, edges) };
}

interface RelationEnds {
  relation: Subgraph['relations'][number];
  source: number;
  target: number;
}

/** Of each node, where the walk may go: entities first, in their order, then chunks. */
function edgesOf(
  entities: Subgraph['entities'],
  chunkAt: ReadonlyMap<string, number>,
  ends: readonly RelationEnds[],
): Edge[][] {
  const edges: Edge[][] = Array.from({ length: entities.length + chunkAt.size }, () => []);
  const weights = new Float64Array(entities.length);
  for (const { relation, source, target } of ends) {
    weights[source] = (weights[source] ?? 0) + relation.weight;
    weights[target] = (weights[target] ?? 0) + relation.weight;
  }
  for (const { relation, source, target } of ends) {
    edges[source]?.push({ to: target, share: ((1 - TO_CHUNKS) * relation.weight) / (weights[source] ?? 1) });
    edges[target]?.push({ to: source, share: ((1 - TO_CHUNKS) * relation.weight) / (weights[target] ?? 1) });
  }
  const mentioned = new Map<number, number[]>();
  for (const [index, { chunks, mentions }] of entities.entries()) {
    const share = TO_CHUNKS / Math.max(mentions, chunks.length, 1);
    for (const chunk of new Set(chunks)) {
      const at = chunkAt.get(chunk) as number;
      edges[index]?.push({ to: at, share });
      const known = mentioned.get(at);
      if (known) known.push(index);
      else mentioned.set(at, [index]);
    }
  }
  for (const [chunk, indexes] of mentioned) {
    edges[chunk] = indexes.map(to => ({ to, share: 1 / indexes.length }));
  }
  return edges;
}

/** Shares of the seeds, of 1 together. */
function restart(entities: Subgraph['entities'], seeds: Seeds): Float64Array {
  const shares = Float64Array.from(entities, ({ id }) => seeds.get(id) ?? 0);
  const sum = shares.reduce((total, weight) => total + weight, 0);
  return sum === 0 ? shares : shares.map(weight => weight / sum);
}

function walk(edges: readonly Edge[][], begin: Float64Array): Float64Array {
  let mass = new Float64Array(edges.length);
  mass.set(begin);
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const next = new Float64Array(edges.length);
    for (const [index, share] of begin.entries()) next[index] = (1 - DAMPING) * share;
    for (const [index, from] of edges.entries()) {
      const moving = DAMPING * (mass[index] ?? 0);
      if (moving === 0) continue;
      for (const { to, share } of from) next[to] = (next[to] ?? 0) + moving * share;
    }
    const moved = next.reduce((sum, value, index) => sum + Math.abs(value - (mass[index] ?? 0)), 0);
    mass = next;
    if (moved < SETTLED) break;
  }
  return mass;
}

const shown = ({ id, name, type }: GraphEntity): GraphEntity => ({ id, name, type });

/** The entities with the most mass, and the relations through which the most of it has gone. */
function mostUsed(
  entities: Subgraph['entities'],
  ends: readonly RelationEnds[],
  mass: Float64Array,
  edges: readonly Edge[][],
): UsedGraph {
  const massOf = (index: number) => mass[index] ?? 0;
  const flow = ({ source, target }: RelationEnds) =>
    massOf(source) * (edges[source]?.find(({ to }) => to === target)?.share ?? 0) +
    massOf(target) * (edges[target]?.find(({ to }) => to === source)?.share ?? 0);
  const ofRelations = ends
    .map(end => ({ end, flow: flow(end) }))
    .filter(relation => relation.flow > 0)
    .toSorted((a, b) => b.flow - a.flow || (a.end.relation.id < b.end.relation.id ? -1 : 1))
    .slice(0, MOST_SHOWN);
  return {
    entities: [...entities.keys()]
      .filter(index => massOf(index) > 0)
      .toSorted((a, b) => massOf(b) - massOf(a) || a - b)
      .slice(0, MOST_SHOWN)
      .map(index => shown(entities[index] as GraphEntity)),
    relations: ofRelations.map(({ end: { relation, source, target } }) => ({
      source: shown(entities[source] as GraphEntity),
      target: shown(entities[target] as GraphEntity),
      type: relation.type,
    })),
  };
}
