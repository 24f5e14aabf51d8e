import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type RetrievalIndex, openRetrievalIndex } from '../../../test/setup/retrieval-index.js';
import { type NewChunk, storeChunks } from '../../../test/setup/stored-chunks.js';
import { ChunksRepository, IncompleteStagingError, KnowledgeBaseGoneError } from './chunks.repository.js';
import { StagingRepository } from './staging.repository.js';

const repository = new ChunksRepository();
let index: RetrievalIndex;
let kb: { tenantId: string; kbId: string };

beforeAll(async () => {
  index = await openRetrievalIndex();
});
afterAll(() => index.close());
beforeEach(async () => {
  kb = await index.createKb();
});

const chunk = (text: string, fields: Partial<NewChunk> = {}): NewChunk => ({
  ordinal: 0,
  text,
  heading: null,
  page: null,
  startOffset: 0,
  endOffset: text.length,
  tokenCount: 1,
  embedding: [0.6, 0.8],
  ...fields,
});

async function write(title: string, ...texts: string[]): Promise<string> {
  const documentId = await index.createDocument(kb, title);
  await replace(documentId, ...texts);
  return documentId;
}

const replace = (documentId: string, ...texts: string[]) =>
  storeChunks(
    index.tx,
    { ...kb, documentId },
    texts.map((text, ordinal) => chunk(text, { ordinal })),
  );

const words = (count: number) => Array.from({ length: count }, (_, i) => `word${i}`).join(' ');

const frequencies = async (...lexemes: string[]): Promise<number[]> => {
  const rows = await index.tx.query<Array<{ frequency: number }>>(
    `SELECT coalesce(document_frequency, 0) AS frequency FROM unnest($2::text[]) WITH ORDINALITY AS l (lexeme, position)
     LEFT JOIN kb_terms ON kb_id = $1 AND term = lexeme_dimension(lexeme) ORDER BY position`,
    [kb.kbId, lexemes],
  );
  return rows.map(row => row.frequency);
};

const statistics = async () => {
  const [row] = await index.tx.query<
    [{ chunk_count: number; lexeme_count: number; reference_length: number; terms: number }]
  >(
    `SELECT chunk_count, lexeme_count::integer, reference_length,
            (SELECT count(*)::integer FROM kb_terms WHERE kb_id = kb.id) AS terms
     FROM knowledge_bases AS kb WHERE id = $1`,
    [kb.kbId],
  );
  return row;
};

/** The weight of `lexeme` in the only chunk of a document. */
const weight = async (documentId: string, lexeme: string): Promise<number> => {
  const [row] = await index.tx.query<[{ weight: number }]>(
    `SELECT -(lexical <#> ('{' || lexeme_dimension($2) || ':1}/268435456')::sparsevec) AS weight
     FROM chunk_vectors WHERE document_id = $1`,
    [documentId, lexeme],
  );
  return row.weight;
};

describe('ChunksRepository', () => {
  it('counts in how many chunks a lexeme stands, and how long the chunks are', async () => {
    await write('a', 'A cat and another cat.', 'The cats sleep.');
    await write('b', 'Dogs sleep.');
    expect(await frequencies('cat', 'sleep', 'dog', 'and')).toEqual([2, 2, 1, 0]);
    // cat anoth cat | cat sleep | dog sleep
    expect(await statistics()).toMatchObject({ chunk_count: 3, lexeme_count: 7, terms: 4 });
  });

  it('leaves nothing of the chunks that it replaces or deletes', async () => {
    const first = await write('a', 'Cats purr.');
    const second = await write('b', 'Cats and dogs.');
    await replace(first, 'Dogs bark.', 'Dogs run.');
    expect(await frequencies('cat', 'purr', 'dog', 'bark')).toEqual([1, 0, 3, 1]);
    expect(await statistics()).toMatchObject({ chunk_count: 3, lexeme_count: 6, terms: 4 });

    await repository.deleteChunks(index.tx, { ...kb, documentIds: [first] });
    await repository.deleteChunks(index.tx, { ...kb, documentIds: [second] });
    expect(await statistics()).toMatchObject({ chunk_count: 0, lexeme_count: 0, terms: 0 });
    expect(await repository.listChunks(index.tx, first, 1, 10)).toEqual({ items: [], total: 0 });
  });

  it('keeps another kb as it is', async () => {
    const documentId = await write('a', 'Cats purr.');
    const mine = kb;
    kb = await index.createKb();
    await write('b', 'Cats purr.');
    await repository.deleteChunks(index.tx, { documentIds: [documentId], kbId: mine.kbId });
    expect(await statistics()).toMatchObject({ chunk_count: 1, lexeme_count: 2, terms: 2 });
  });

  it('weighs by the formula of BM25', async () => {
    const short = await write('short', 'cat');
    const long = await write('long', 'cat cat dog mouse horse');
    // Average length (1 + 5) / 2: tf × 2.2 / (tf + 1.2 × (0.25 + 0.75 × length / 3)).
    expect(await weight(short, 'cat')).toBeCloseTo(2.2 / (1 + 1.2 * 0.5), 5);
    expect(await weight(long, 'cat')).toBeCloseTo(4.4 / (2 + 1.2 * 1.5), 5);
    expect(await weight(long, 'unknown')).toBeCloseTo(0, 5);
  });

  it('weighs all chunks anew only when the average length has moved by more than a tenth', async () => {
    const first = await write('a', words(20));
    expect((await statistics()).reference_length).toBe(20);
    await write('b', words(23));
    expect((await statistics()).reference_length).toBe(20);
    const before = await weight(first, 'word0');
    await write('c', words(40));
    expect((await statistics()).reference_length).toBeCloseTo(83 / 3, 4);
    expect(await weight(first, 'word0')).toBeGreaterThan(before);
  });

  it('asks for reweighing instead of doing it where the kb is large', async () => {
    const documentId = await write('a', 'cat');
    await index.tx.query(
      'UPDATE knowledge_bases SET chunk_count = 5000, lexeme_count = 50000 WHERE id = $1',
      [kb.kbId],
    );
    const other = await index.createDocument(kb, 'b');
    expect(await replace(other, 'dog')).toEqual({ reweighNeeded: true });
    expect((await statistics()).reference_length).toBe(1);
    await repository.reweigh(index.tx, kb.kbId);
    expect((await statistics()).reference_length).toBeCloseTo(10, 2);
    expect(await weight(documentId, 'cat')).toBeGreaterThan(1);
  });

  it('stores texts without lexemes, with too many, and with U+0000', async () => {
    const many = Array.from({ length: 20_000 }, (_, i) => i.toString(36)).join(' ');
    await write('odd', 'The of and', many, 'nul\0byte', '');
    expect((await statistics()).chunk_count).toBe(4);
    expect(await frequencies('byte')).toEqual([1]);
    const [{ elements }] = await index.tx.query<[{ elements: number }]>(
      `SELECT max((SELECT count(*)::integer FROM sparsevec_indices(lexical))) AS elements FROM chunk_vectors WHERE kb_id = $1`,
      [kb.kbId],
    );
    expect(elements).toBe(16_000);
  });

  it.each(['cat', 'katze', '猫', ''])('hashes %j alike on every version of PostgreSQL', async lexeme => {
    const [{ dimension }] = await index.tx.query<[{ dimension: number }]>(
      'SELECT lexeme_dimension($1) AS dimension',
      [lexeme],
    );
    expect(dimension).toBe(
      Number.parseInt(createHash('md5').update(lexeme).digest('hex').slice(0, 7), 16) + 1,
    );
  });

  it('makes a chunk findable by its heading', async () => {
    const documentId = await index.createDocument(kb, 'a');
    await storeChunks(index.tx, { ...kb, documentId }, [chunk('Press it.', { heading: 'Installation' })]);
    expect(await frequencies('instal', 'press')).toEqual([1, 1]);
  });

  it('stores documents of several batches, and lists them by page in order', async () => {
    const documentId = await write('a', ...Array.from({ length: 600 }, (_, i) => `chunk number${i}`));
    const { items, total } = await repository.listChunks(index.tx, documentId, 3, 250);
    expect(total).toBe(600);
    expect(items.map(item => item.ordinal)).toEqual(Array.from({ length: 100 }, (_, i) => 500 + i));
    expect(items[0]).toMatchObject({
      document_id: documentId,
      text: 'chunk number500',
      heading: null,
      token_count: 1,
    });
    expect(await frequencies('chunk')).toEqual([600]);
  });

  it('refuses what is not staged as a whole', async () => {
    const owner = { ...kb, documentId: await index.createDocument(kb, 'a') };
    const staging = new StagingRepository();
    await staging.begin(index.tx, owner, { version: 1, fingerprint: 'x', embeddingModel: 'x' });
    await staging.addChunks(index.tx, owner, [chunk('cat'), chunk('dog', { ordinal: 1 })]);
    await staging.addVectors(index.tx, owner, [1], [[1, 0]]);
    expect(await staging.embedded(index.tx, owner.documentId)).toEqual({ chunks: 1, tokens: 1 });
    expect(await staging.nextUnembedded(index.tx, owner.documentId, -1, 10)).toEqual([
      { ordinal: 0, text: 'cat', tokenCount: 1 },
    ]);
    await index.tx.query('BEGIN');
    await expect(repository.swapIn(index.tx, owner, 2)).rejects.toThrow(IncompleteStagingError);
    await index.tx.query('ROLLBACK');
  });

  it('swaps all documents of a kb at once, and leaves the others with nothing', async () => {
    await write('gone', 'cats purr');
    const staying = await write('stays', 'dogs bark');
    const staging = new StagingRepository();
    const owner = { ...kb, documentId: staying };
    await staging.begin(index.tx, owner, { version: 1, fingerprint: 'x', embeddingModel: 'x' });
    await staging.addChunks(index.tx, owner, [chunk('dogs sleep'), chunk('dogs eat', { ordinal: 1 })]);
    await staging.addVectors(
      index.tx,
      owner,
      [0, 1],
      [
        [1, 0],
        [0, 1],
      ],
    );
    await repository.swapAll(index.tx, kb, [{ id: staying, chunkCount: 2 }]);
    expect(await frequencies('cat', 'purr', 'dog', 'bark', 'sleep', 'eat')).toEqual([0, 0, 2, 0, 1, 1]);
    expect(await statistics()).toMatchObject({ chunk_count: 2, lexeme_count: 4, terms: 3 });
  });

  it('refuses a kb that is not there', async () => {
    const gone = { tenantId: kb.tenantId, kbId: kb.tenantId, documentId: kb.tenantId };
    await expect(storeChunks(index.tx, gone, [chunk('cat')])).rejects.toThrow(KnowledgeBaseGoneError);
  });

  it('refuses vectors that are none', async () => {
    const documentId = await index.createDocument(kb, 'a');
    const broken = chunk('cat', { embedding: [Number.NaN] });
    await expect(storeChunks(index.tx, { ...kb, documentId }, [broken])).rejects.toThrow(RangeError);
  });
});

describe('what goes through a whole knowledge base', () => {
  const timeoutAfter = async (work: () => Promise<unknown>): Promise<string> => {
    await index.tx.query('BEGIN');
    await index.tx.query(`SET LOCAL statement_timeout = '60s'`);
    try {
      await work();
      const [row] = await index.tx.query<[{ statement_timeout: string }]>('SHOW statement_timeout');
      return row.statement_timeout;
    } finally {
      await index.tx.query('ROLLBACK');
    }
  };

  it('may take longer than a request, and has an end', async () => {
    const document = await write('a', 'one two three');
    await index.tx.query(`UPDATE knowledge_bases SET language = 'german' WHERE id = $1`, [kb.kbId]);
    expect(await timeoutAfter(() => repository.reindexKeywords(index.tx, kb.kbId))).toBe('30min');
    expect(await timeoutAfter(() => repository.reweigh(index.tx, kb.kbId))).toBe('30min');
    const remove = () => repository.deleteChunks(index.tx, { documentIds: [document], kbId: kb.kbId });
    expect(await timeoutAfter(remove)).toBe('1min');
    await index.tx.query('UPDATE knowledge_bases SET entity_count = 1 WHERE id = $1', [kb.kbId]);
    expect(await timeoutAfter(remove)).toBe('30min');
  });
});
