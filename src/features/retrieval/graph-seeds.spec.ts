import { describe, expect, it } from 'vitest';
import { weightsOfMeant, weightsOfMentioned } from './graph-seeds.js';
import type { MeantEntity } from './graph-search.repository.js';

const named = (key: string): MeantEntity => ({ id: key, key, by: 'name', word: null, cosine: null });
const sharing = (key: string, word: string): MeantEntity => ({
  id: key,
  key,
  by: 'word',
  word,
  cosine: null,
});
const similar = (key: string, cosine: number): MeantEntity => ({
  id: key,
  key,
  by: 'vector',
  word: null,
  cosine,
});

describe('weightsOfMeant', () => {
  it('is sure of whole names, less of parts of another', () => {
    const weights = weightsOfMeant([named('new york university'), named('york'), named('yorkshire')]);
    expect(Object.fromEntries(weights)).toEqual({ 'new york university': 1, yorkshire: 1, york: 0.3 });
  });

  it('takes shared words by their share of the name, unless they belong to a whole name', () => {
    const weights = weightsOfMeant([
      sharing('marie curie', 'curie'),
      sharing('curie institute paris', 'curie'),
      sharing('curie institute paris', 'institute'),
      named('anna keller'),
      sharing('keller ltd', 'keller'),
    ]);
    expect(weights.get('marie curie')).toBe(0.25);
    expect(weights.get('curie institute paris')).toBeCloseTo(1 / 3);
    expect(weights.has('keller ltd')).toBe(false);
  });

  it('takes the best of what speaks for an entity, and the best entities', () => {
    const many = Array.from({ length: 40 }, (_, i) => similar(`other${i}`, 0.6));
    const weights = weightsOfMeant([...many, similar('acme', 0.9), named('acme')]);
    expect(weights.get('acme')).toBe(1);
    expect(weights.size).toBe(16);
    expect(weightsOfMeant([]).size).toBe(0);
  });
});

describe('weightsOfMentioned', () => {
  const mention = (source_id: string, target_id: string, text: string, fields = {}) => ({
    chunk_id: 'one',
    source_id,
    target_id,
    text,
    weight: 1,
    ...fields,
  });

  it('weighs by the passage, the closeness, and the words that are shared', () => {
    const weights = weightsOfMentioned(
      [
        mention('a', 'b', 'acme borealis acquired'),
        mention('c', 'd', 'acme orion supplies'),
        mention('e', 'f', 'acme borealis acquired', { chunk_id: 'two' }),
        mention('g', 'h', 'acme borealis acquired', { weight: 0.3 }),
      ],
      new Map([
        ['one', 0.8],
        ['two', 0.4],
      ]),
      ['acquires', 'companies'],
    );
    expect(weights.get('a')).toBe(0.8);
    for (const less of ['c', 'e', 'g']) expect(weights.get(less)).toBeLessThan(0.8);
    expect(weights.get('a')).toBe(weights.get('b'));
  });

  it('has nothing where nothing is mentioned, or no passage is about the question', () => {
    expect(weightsOfMentioned([], new Map([['one', 0.8]]), ['word']).size).toBe(0);
    expect(weightsOfMentioned([mention('a', 'b', 'acme')], new Map([['one', 0]]), []).size).toBe(0);
  });
});
