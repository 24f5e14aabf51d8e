import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkCatalogue } from '../../src/foundation/database/catalogue-check.js';
import { tried } from '../setup/isolation-cases.js';
import {
  type LargeKbs,
  type TestKb,
  madeUpTexts,
  openLargeKbs,
  recallAt10,
  vectorOf,
} from '../setup/large-kb.js';

/** Chunks from which a knowledge base is large, here. */
const LARGE = 400;
const MODES = ['hybrid', 'vector', 'keyword'] as const;
const QUESTIONS = madeUpTexts(20, 99).map(text => text.split(' ').slice(0, 5).join(' '));

let kbs: LargeKbs;
/** Large, with an index. */
let own: TestKb;
let small: TestKb;
let neighbour: TestKb;

beforeAll(async () => {
  kbs = await openLargeKbs();
  own = await kbs.createKb();
  small = await kbs.createKb();
  neighbour = await kbs.createKb();
  await kbs.store(own, madeUpTexts(500, 1));
  await kbs.store(small, madeUpTexts(60, 2));
  await kbs.store(neighbour, madeUpTexts(450, 3));
  for (const kb of [own, small, neighbour]) await kbs.update(kb, LARGE);
}, 300_000);
afterAll(() => kbs?.close());

const indexOf = async (kb: TestKb): Promise<{ generation: number; table: string }> => {
  const [row] = await kbs.superuser(`SELECT large_generation FROM knowledge_bases WHERE id = '${kb.kbId}'`);
  const generation = row?.['large_generation'];
  return { generation, table: `large_vectors_${kb.kbId.replaceAll('-', '')}_${generation}` };
};

const answers = async (kb: TestKb) => {
  const found = [];
  for (const mode of MODES) {
    for (const index of ['settled', 'changing'] as const) {
      for (const question of QUESTIONS) found.push(await kbs.search(kb, question, { mode, index }));
    }
  }
  return found;
};

describe('T6 nearest neighbours', () => {
  describe('what neighbours pack around the question', () => {
    it('changes neither passages, nor scores, nor how many', async () => {
      const before = [await answers(own), await answers(small)];
      // Their vectors are the questions’ own, and their texts repeat its words.
      await kbs.store(
        neighbour,
        QUESTIONS.flatMap(question => Array.from({ length: 15 }, () => question)),
      );
      await kbs.update(neighbour, LARGE);
      expect([await answers(own), await answers(small)]).toEqual(before);
      expect(before[0]?.every(answer => answer.index === 'settled')).toBe(true);
      expect(before[1]?.every(answer => answer.index === null)).toBe(true);
      tried(before.flat().length);
    });

    it.each(MODES)('leaves the ten best where they are: %s', async mode => {
      expect(await recallAt10(kbs, own, QUESTIONS, mode)).toBeGreaterThanOrEqual(0.95);
      expect(await recallAt10(kbs, neighbour, QUESTIONS, mode)).toBeGreaterThanOrEqual(0.95);
      tried(2 * QUESTIONS.length);
    });

    it.each([1, 10, 100])('never costs one of %i rows', async topK => {
      for (const kb of [own, neighbour]) {
        for (const question of QUESTIONS.slice(0, 5)) {
          const asked = { topK, cosineThreshold: -1 };
          expect((await kbs.search(kb, question, { ...asked, index: 'settled' })).ids).toHaveLength(topK);
          expect(
            (await kbs.search(kb, question, { ...asked, mode: 'vector', index: 'settled' })).ids,
          ).toHaveLength(topK);
          tried(2);
        }
      }
    });
  });

  describe('an index of one tenant', () => {
    const nearest = (kb: TestKb, of: TestKb, generation: number, settings?: Record<string, string>) =>
      kbs.run(
        kb,
        tx =>
          tx.query('SELECT number FROM nearest_in_large($1, $2, $3::halfvec, 10) AS number', [
            of.kbId,
            generation,
            JSON.stringify(vectorOf(QUESTIONS[0] as string)),
          ]),
        settings,
      );

    it('shows nothing to another', async () => {
      const { generation, table } = await indexOf(own);
      expect(await nearest(own, own, generation)).toHaveLength(10);
      expect(await nearest(neighbour, own, generation)).toEqual([]);
      for (const name of [table, 'large_indexes', 'large_postings']) {
        const rows = await kbs.run(neighbour, tx =>
          tx.query(`SELECT FROM ${name} WHERE kb_id = $1`, [own.kbId]),
        );
        expect(rows).toEqual([]);
        tried();
      }
    });

    it('takes nothing from another, whatever it says whose it is', async () => {
      const { table } = await indexOf(own);
      for (const tenantId of [own.tenantId, neighbour.tenantId]) {
        const added = kbs.run(neighbour, tx =>
          tx.query(`INSERT INTO ${table} (number, tenant_id, kb_id, embedding) VALUES (0, $1, $2, $3)`, [
            tenantId,
            own.kbId,
            JSON.stringify(vectorOf('word1')),
          ]),
        );
        await expect(added).rejects.toThrow(/row-level security|check constraint/);
      }
      const deleted = await kbs.run(neighbour, tx => tx.query(`DELETE FROM ${table}`));
      expect(deleted[1]).toBe(0);
      tried(3);
    });

    it('is made by nobody else', async () => {
      for (const tenantId of [own.tenantId, neighbour.tenantId]) {
        const made = kbs.run(neighbour, tx =>
          tx.query('INSERT INTO large_indexes (kb_id, tenant_id, dimensions) VALUES ($1, $2, 8)', [
            own.kbId,
            tenantId,
          ]),
        );
        await expect(made).rejects.toThrow(/row-level security|foreign key/);
      }
      const called = kbs.run(own, tx => tx.query('SELECT make_large_vectors()'));
      await expect(called).rejects.toThrow(/permission denied|trigger/);
      const { table } = await indexOf(own);
      const dropped = kbs.run(own, tx => tx.query(`DROP TABLE ${table}`));
      await expect(dropped).rejects.toThrow(/must be owner/);
      tried(4);
    });

    it('is closed to members of the same tenant to whom its knowledge base is', async () => {
      const { generation, table } = await indexOf(own);
      await kbs.superuser(`UPDATE knowledge_bases SET visibility = 'granted' WHERE id = '${own.kbId}'`);
      const member = { access: 'granted', user_id: own.tenantId };
      const otherKb = { access: 'all', kb_ids: `{${small.kbId}}` };
      for (const settings of [member, otherKb]) {
        expect(await nearest(own, own, generation, settings)).toEqual([]);
        expect(await kbs.run(own, tx => tx.query(`SELECT FROM ${table}`), settings)).toEqual([]);
      }
      await kbs.superuser(`UPDATE knowledge_bases SET visibility = 'tenant' WHERE id = '${own.kbId}'`);
      expect(await nearest(own, own, generation, member)).toHaveLength(10);
      tried(5);
    });

    it('passes the check at the start, which sees where it does not', async () => {
      await expect(checkCatalogue(kbs.dataSource)).resolves.toBeUndefined();
      const { table } = await indexOf(own);
      for (const policy of ['tenant_isolation', 'granted_access', 'token_kbs']) {
        await kbs.superuser(
          `ALTER POLICY ${policy} ON ${table} RENAME TO kept`,
          `ALTER POLICY kept ON ${table} TO postgres`,
        );
        await expect(checkCatalogue(kbs.dataSource)).rejects.toThrow(table);
        await kbs.superuser(
          `ALTER POLICY kept ON ${table} TO enclave_tenant`,
          `ALTER POLICY kept ON ${table} RENAME TO ${policy}`,
        );
      }
      await kbs.superuser(`ALTER TABLE ${table} NO FORCE ROW LEVEL SECURITY`);
      await expect(checkCatalogue(kbs.dataSource)).rejects.toThrow(table);
      await kbs.superuser(`ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`);
      tried(4);
      await expect(checkCatalogue(kbs.dataSource)).resolves.toBeUndefined();
    });

    it('goes with its knowledge base, and with its tenant', async () => {
      const tables = async () =>
        (
          await kbs.superuser(
            `SELECT relname FROM pg_class WHERE relname ~ '^large_vectors_[0-9a-f_]+$' AND relkind = 'r'`,
          )
        ).map(row => row['relname']);
      const [mine, theirs] = [(await indexOf(own)).table, (await indexOf(neighbour)).table];
      expect(await tables()).toEqual(expect.arrayContaining([mine, theirs]));
      await kbs.run(own, tx => tx.query('DELETE FROM knowledge_bases WHERE id = $1', [own.kbId]));
      expect(await tables()).toEqual([theirs]);
      await kbs.superuser(`DELETE FROM tenants WHERE id = '${neighbour.tenantId}'`);
      expect(await tables()).toEqual([]);
      const left = await kbs.superuser('SELECT FROM large_indexes UNION ALL SELECT FROM large_postings');
      expect(left).toEqual([]);
      tried(3);
    });
  });
});
