import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SERVER } from '../../../test/setup/database.js';
import { ChunksRepository } from '../documents/chunks.repository.js';
import {
  type LargeKbs,
  type TestKb,
  madeUpTexts,
  openLargeKbs,
  recallAt10,
  vectorOf,
} from '../../../test/setup/large-kb.js';

const LARGE = 300;
/** On a server the vectors are indexed when they are there. */
const BUILT = SERVER
  ? ['make', 'addVectors', 'index', 'addTerms', 'serve']
  : ['make', 'index', 'addVectors', 'addTerms', 'serve'];
/** What a search before may have said of the index. */
const STATES = ['settled', 'changing'] as const;
const MODES = ['hybrid', 'vector', 'keyword'] as const;
const QUESTIONS = madeUpTexts(10, 99).map(text => text.split(' ').slice(0, 5).join(' '));

let kbs: LargeKbs;

beforeAll(async () => {
  kbs = await openLargeKbs();
});
afterAll(() => kbs?.close());

const indexes = (kb: TestKb) =>
  kbs.superuser(
    `SELECT i.dimensions, i.vector_count, i.chunk_count, i.stale, i.generation = kb.large_generation AS served
     FROM large_indexes AS i JOIN knowledge_bases AS kb ON kb.id = i.kb_id WHERE i.kb_id = '${kb.kbId}' ORDER BY i.generation`,
  );

const tables = async (kb: TestKb) => {
  const rows = await kbs.superuser(
    `SELECT FROM pg_class WHERE relkind = 'r' AND relname LIKE 'large_vectors_${kb.kbId.replaceAll('-', '')}%'`,
  );
  return rows.length;
};

describe('the index of a knowledge base that grows and shrinks', () => {
  let kb: TestKb;
  let documents: string[];

  beforeAll(async () => {
    kb = await kbs.createKb();
    documents = await kbs.store(kb, madeUpTexts(200, 1));
  });

  it('is not made for a small one', async () => {
    expect(await kbs.update(kb, LARGE)).toEqual([]);
    expect((await kbs.search(kb, QUESTIONS[0]!, { index: 'changing' })).index).toBeNull();
    expect((await kbs.search(kb, QUESTIONS[0]!, { index: 'changing' })).ids).toHaveLength(10);
  });

  it('is built step by step, and finds what an exact scan finds', async () => {
    documents.push(...(await kbs.store(kb, madeUpTexts(400, 2))));
    const steps = await kbs.update(kb, LARGE);
    expect(steps.filter((step, i) => step !== steps[i - 1])).toEqual(BUILT);
    expect(await indexes(kb)).toEqual([
      { dimensions: 64, vector_count: 600, chunk_count: 600, stale: false, served: true },
    ]);
    for (const mode of MODES) {
      const changing = await kbs.search(kb, QUESTIONS[0]!, { mode, index: 'changing' });
      expect(changing.index).toBe('settled');
      expect(await kbs.search(kb, QUESTIONS[0]!, { mode, index: 'settled' })).toEqual(changing);
      expect(await recallAt10(kbs, kb, QUESTIONS, mode)).toBeGreaterThanOrEqual(0.95);
    }
  });

  it('says the same of a passage as an exact scan', async () => {
    const shown = ({ ids, scores }: { ids: string[]; scores: number[] }) =>
      ids.map((id, rank) => `${id} ${scores[rank]?.toFixed(9)}`);
    for (const mode of MODES) {
      const exact = shown(await kbs.search(kb, QUESTIONS[1]!, { mode, topK: 100 }));
      const found = shown(await kbs.search(kb, QUESTIONS[1]!, { mode, index: 'changing' }));
      expect(exact).toEqual(expect.arrayContaining(found));
    }
  });

  it('finds what is new at once, and knows nothing any more of what is gone', async () => {
    const question = QUESTIONS[2]!;
    const [added] = await kbs.store(kb, [question]);
    for (const mode of MODES) {
      for (const index of STATES) {
        const found = await kbs.search(kb, question, { mode, index });
        expect(found.index).toBe('changing');
        expect(found.texts[0]).toBe(question);
      }
    }
    await kbs.deleteDocuments(kb, [added as string]);
    for (const mode of MODES) {
      for (const index of STATES)
        expect((await kbs.search(kb, question, { mode, index })).texts).not.toContain(question);
    }
  });

  it('takes in what was added, and lets go of what was deleted', async () => {
    documents.push(...(await kbs.store(kb, madeUpTexts(200, 4))));
    await kbs.deleteDocuments(kb, documents.splice(0, 2));
    expect(await kbs.update(kb, LARGE)).toEqual(['addVectors', 'addTerms', 'removeVectors']);
    expect(await indexes(kb)).toMatchObject([{ vector_count: 600, served: true }]);
    for (const mode of MODES) expect(await recallAt10(kbs, kb, QUESTIONS, mode)).toBeGreaterThanOrEqual(0.95);
  });

  it('reads all chunks where what it finds is gone', async () => {
    const question = QUESTIONS[3]!;
    const copies = await kbs.store(
      kb,
      Array.from({ length: 250 }, () => question),
    );
    await kbs.update(kb, LARGE);
    await kbs.deleteDocuments(kb, copies);
    for (const mode of MODES) {
      const exact = await kbs.search(kb, question, { mode });
      for (const index of STATES)
        expect((await kbs.search(kb, question, { mode, index })).ids).toEqual(exact.ids);
    }
    await kbs.update(kb, LARGE);
    const { ids, index } = await kbs.search(kb, question, {
      mode: 'vector',
      cosineThreshold: -1,
      index: 'changing',
    });
    expect([ids.length, index]).toEqual([10, 'settled']);
  });

  it('keeps filters, phrases and feedback right', async () => {
    const question = QUESTIONS[4]!;
    const filter = { documentIds: documents.slice(0, 1) };
    expect((await kbs.search(kb, question, { filter, index: 'changing' })).ids).toEqual(
      (await kbs.search(kb, question, { filter })).ids,
    );
    const phrases = question.split(' ').slice(0, 1);
    expect((await kbs.search(kb, question, { phrases, index: 'changing' })).ids).toEqual(
      (await kbs.search(kb, question, { phrases })).ids,
    );
    for (const more of [{ feedback: true }, { fusion: 'rank' as const }, { withTerms: true }]) {
      const { ids, index } = await kbs.search(kb, question, { ...more, index: 'changing' });
      expect([ids.length, index]).toEqual([10, 'settled']);
    }
  });

  it('is built anew when too much of it is gone, and used meanwhile', async () => {
    await kbs.deleteDocuments(kb, documents.splice(0, 3));
    const steps = await kbs.update(kb, LARGE);
    expect(steps).toEqual([...BUILT, 'drop']);
    expect(await indexes(kb)).toMatchObject([{ served: true, stale: false }]);
    expect(await tables(kb)).toBe(1);
  });

  it('goes when it is not worth it any more', async () => {
    await kbs.deleteDocuments(kb, documents.splice(1));
    expect(await kbs.update(kb, LARGE)).toEqual(['drop']);
    expect([await indexes(kb), await tables(kb)]).toEqual([[], 0]);
    expect((await kbs.search(kb, QUESTIONS[0]!, { index: 'changing' })).ids.length).toBeGreaterThan(0);
  });
});

describe('the index of a knowledge base that is indexed anew', () => {
  let kb: TestKb;

  beforeEach(async () => {
    kb = await kbs.createKb();
    await kbs.store(kb, madeUpTexts(350, 5));
    await kbs.update(kb, LARGE);
  });

  it('is not used once its language has changed, and made again', async () => {
    await kbs.superuser(`UPDATE knowledge_bases SET language = 'german' WHERE id = '${kb.kbId}'`);
    await kbs.run(kb, tx => new ChunksRepository().reindexKeywords(tx, kb.kbId));
    expect(await indexes(kb)).toMatchObject([{ stale: true, served: null }]);
    expect((await kbs.search(kb, QUESTIONS[0]!, { index: 'changing' })).index).toBeNull();
    expect(await kbs.update(kb, LARGE)).toEqual(['drop', ...BUILT]);
    expect(await recallAt10(kbs, kb, QUESTIONS, 'keyword')).toBeGreaterThanOrEqual(0.95);
  });

  it('has the dimensions of the vectors that were swapped in', async () => {
    await kbs.run(kb, tx => new ChunksRepository().swapAll(tx, kb, []));
    expect(await indexes(kb)).toMatchObject([{ stale: true, served: null }]);
    await kbs.store(kb, madeUpTexts(350, 6), text => vectorOf(text, 32));
    await kbs.update(kb, LARGE);
    expect(await indexes(kb)).toMatchObject([{ dimensions: 32, vector_count: 350, served: true }]);
    const question = QUESTIONS[0]!;
    const found = await kbs.search(kb, question, {
      mode: 'vector',
      embedding: vectorOf(question, 32),
      index: 'changing',
    });
    expect([found.ids.length, found.index]).toEqual([10, 'settled']);
    // A question of another model has no cosines there: what an exact scan says holds.
    const other = await kbs.search(kb, question, { embedding: vectorOf(question, 64), index: 'changing' });
    expect(other.ids).toEqual((await kbs.search(kb, question, { embedding: vectorOf(question, 64) })).ids);
  });
});
