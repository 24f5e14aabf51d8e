import { describe, expect, it } from 'vitest';
import { type Subgraph, spread, usedOf } from './graph-spreading.js';

const entity = (id: string, ...chunks: string[]) => ({
  id,
  name: id.toUpperCase(),
  type: 'name',
  mentions: chunks.length,
  chunks,
});
const relation = (source: string, target: string, weight = 1) => ({
  id: `${source}-${target}`,
  source,
  target,
  type: 'knows',
  weight,
});
const seeds = (...ids: string[]) => new Map(ids.map(id => [id, 1]));

describe('spread', () => {
  it('works out personalised PageRank', () => {
    const graph: Subgraph = {
      entities: [entity('a', 'one'), entity('b', 'two')],
      relations: [relation('a', 'b')],
    };
    // With damping d = 1/2, halves to chunks and neighbours: a = 1/2 + (b/2 + one) / 2, b = (a/2 + two) / 2,
    // one = a/4, two = b/4; so b = 2a/7, a = 0.62 and two / one = b / a.
    const { chunks } = spread(graph, seeds('a'));
    expect(chunks.get('one')).toBe(1);
    expect(chunks.get('two')).toBeCloseTo(2 / 7, 5);
  });

  it('reaches what is two relations away, and brings less to what is further', () => {
    const graph: Subgraph = {
      entities: [entity('a', 'one'), entity('b', 'two'), entity('c', 'three'), entity('d', 'four')],
      relations: [relation('a', 'b'), relation('b', 'c')],
    };
    const { chunks } = spread(graph, seeds('a'));
    const order = [...chunks].toSorted(([, x], [, y]) => y - x).map(([chunk]) => chunk);
    expect(order).toEqual(['one', 'two', 'three']);
  });

  it('goes through a chunk that mentions two entities without a relation', () => {
    const graph: Subgraph = { entities: [entity('a', 'one'), entity('b', 'one', 'two')], relations: [] };
    expect(spread(graph, seeds('a')).chunks.get('two')).toBeGreaterThan(0);
  });

  it('brings little to each of many chunks', () => {
    const many = Array.from({ length: 64 }, (_, i) => `many${i}`);
    const graph: Subgraph = {
      entities: [entity('rare', 'one'), entity('common', ...many)],
      relations: [],
    };
    const { chunks } = spread(graph, seeds('rare', 'common'));
    expect(chunks.get('many7')).toBeCloseTo(1 / 64, 2);
  });

  it('prefers the heavier relation, and says what it has gone through', () => {
    const graph: Subgraph = {
      entities: [entity('a', 'one'), entity('b', 'two'), entity('c', 'three'), entity('far', 'four')],
      relations: [relation('a', 'b', 0.3), relation('c', 'a', 3)],
    };
    const { chunks, used } = spread(graph, seeds('a'));
    expect(chunks.get('three')).toBeGreaterThan(chunks.get('two') as number);
    expect(used.entities.map(({ id }) => id)).toEqual(['a', 'c', 'b']);
    expect(used.entities[0]).toEqual({ id: 'a', name: 'A', type: 'name' });
    expect(used.relations.map(({ source, target }) => [source.id, target.id])).toEqual([
      ['c', 'a'],
      ['a', 'b'],
    ]);
  });

  it('leaves out ends that are not there, and begins nowhere where no seed is', () => {
    const graph: Subgraph = { entities: [entity('a', 'one')], relations: [relation('a', 'hidden')] };
    expect([...spread(graph, seeds('a')).chunks.keys()]).toEqual(['one']);
    const nothing = spread(graph, seeds('hidden'));
    expect(nothing).toEqual({ chunks: new Map(), used: { entities: [], relations: [] } });
    expect(spread({ entities: [], relations: [] }, seeds('a')).chunks.size).toBe(0);
  });
});

describe('usedOf', () => {
  it('is null where no graph was used, and the sum where some were', () => {
    const one = { entities: [{ id: 'a', name: 'A', type: 'x' }], relations: [] };
    expect(usedOf([null, null])).toBeNull();
    expect(usedOf([null, one, { entities: [], relations: [] }])).toEqual(one);
  });
});
