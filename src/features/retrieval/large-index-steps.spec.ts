import { describe, expect, it } from 'vitest';
import { type LargeIndex, type LargeIndexState, changesKb, nextStep } from './large-index-steps.js';

const SERVER = { from: 10_000, gradually: false };
const EMBEDDED = { from: 10_000, gradually: true };

const index = (fields: Partial<LargeIndex> = {}): LargeIndex => ({
  generation: 1,
  dimensions: 256,
  vectorsUpTo: 10_000,
  termsUpTo: 10_000,
  vectorCount: 10_000,
  chunkCount: 10_000,
  indexed: true,
  stale: false,
  ...fields,
});

const next = (fields: Partial<LargeIndexState>, begun = false, options = SERVER) =>
  nextStep(
    { chunkCount: 10_000, lastChunkNumber: 10_000, servedGeneration: 1, indexes: [index()], ...fields },
    options,
    begun,
  );

describe('nextStep', () => {
  it('makes an index from a size on, and keeps it down to half of that', () => {
    expect(next({ chunkCount: 9_999, indexes: [] })).toBeNull();
    expect(next({ indexes: [] })).toEqual({ do: 'make' });
    expect(
      next({ chunkCount: 5_000, indexes: [index({ chunkCount: 5_000, vectorCount: 5_000 })] }),
    ).toBeNull();
    expect(next({ chunkCount: 4_999 })).toEqual({ do: 'drop', generations: [1] });
  });

  it('fills a new one and then has it used', () => {
    const building = (fields: Partial<LargeIndex>, options = SERVER) =>
      next(
        {
          servedGeneration: null,
          indexes: [index({ vectorsUpTo: 0, termsUpTo: 0, indexed: false, ...fields })],
        },
        true,
        options,
      )?.do;
    expect(building({})).toBe('addVectors');
    expect(building({ vectorsUpTo: 10_000 })).toBe('index');
    expect(building({ vectorsUpTo: 10_000, indexed: true })).toBe('addTerms');
    expect(building({ vectorsUpTo: 9_900, termsUpTo: 9_900, indexed: true })).toBe('addVectors');
    // What comes while it is built waits until it is used.
    expect(building({ vectorsUpTo: 9_901, termsUpTo: 9_901, indexed: true })).toBe('serve');
  });

  it('has no index built of many vectors at once where nothing else could be done meanwhile', () => {
    const empty = index({ vectorsUpTo: 0, termsUpTo: 0, indexed: false });
    expect(next({ servedGeneration: null, indexes: [empty] }, true, EMBEDDED)?.do).toBe('index');
    const grown = { chunkCount: 12_000, lastChunkNumber: 12_000 };
    expect(next(grown, true, EMBEDDED)?.do).toBe('addVectors');
    expect(next(grown)?.do).toBe('make');
  });

  it('adds what is new once that is worth it, and then all of it', () => {
    const grown = { chunkCount: 10_500, lastChunkNumber: 10_500 };
    expect(next(grown)).toBeNull();
    expect(next(grown, true)?.do).toBe('addVectors');
    expect(next({ chunkCount: 10_512, lastChunkNumber: 10_512 })?.do).toBe('addVectors');
    expect(next({ ...grown, indexes: [index({ vectorsUpTo: 10_500, vectorCount: 10_500 })] }, true)?.do).toBe(
      'addTerms',
    );
  });

  it('removes the vectors of what is gone', () => {
    expect(next({ chunkCount: 9_901 })).toBeNull();
    expect(next({ chunkCount: 9_900 })?.do).toBe('removeVectors');
    expect(next({ chunkCount: 9_900, indexes: [index({ vectorCount: 9_900 })] })).toBeNull();
    // Not before it knows what has come meanwhile, some of which may be gone already.
    expect(next({ chunkCount: 9_900, lastChunkNumber: 10_010 })?.do).toBe('addVectors');
  });

  it('builds another beside one of which too much is gone, and drops that when the other is used', () => {
    const old = index({ chunkCount: 15_001 });
    expect(next({ indexes: [old] })).toEqual({ do: 'make' });
    const another = index({ generation: 2, vectorsUpTo: 0, termsUpTo: 0, chunkCount: 0, vectorCount: 0 });
    expect(next({ indexes: [another, old] })).toEqual({ do: 'addVectors', index: another });
    const built = index({ generation: 2 });
    expect(next({ indexes: [built, old] })).toEqual({ do: 'serve', index: built });
    expect(next({ indexes: [built, old], servedGeneration: 2 })).toEqual({ do: 'drop', generations: [1] });
  });

  it('drops what does not hold any more', () => {
    const stale = index({ stale: true });
    expect(next({ indexes: [stale], servedGeneration: null })).toEqual({ do: 'drop', generations: [1] });
    expect(next({ indexes: [index({ generation: 3 }), index({ generation: 2 }), index()] })).toEqual({
      do: 'drop',
      generations: [2],
    });
  });
});

it('knows which steps the knowledge base’s row tells of', () => {
  expect(changesKb(null)).toBe(false);
  expect(changesKb({ do: 'make' })).toBe(true);
  expect(changesKb({ do: 'drop', generations: [1] })).toBe(true);
  expect(changesKb({ do: 'serve', index: index() })).toBe(true);
  for (const step of ['index', 'addVectors', 'addTerms', 'removeVectors'] as const)
    expect(changesKb({ do: step, index: index() })).toBe(false);
});
