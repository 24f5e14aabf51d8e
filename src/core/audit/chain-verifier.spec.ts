import { describe, expect, it } from 'vitest';
import { type AuditEntry, type ChainHead, GENESIS_HASH, hashOf } from './audit-entry.js';
import { ChainVerifier } from './chain-verifier.js';

const LENGTH = 20;

/** Gives an entry the hash of its content. */
const sealed = (entry: AuditEntry): AuditEntry => ({ ...entry, hash: hashOf(entry) });

function chain(): AuditEntry[] {
  const entries: AuditEntry[] = [];
  for (let sequence = 1; sequence <= LENGTH; sequence++) {
    entries.push(
      sealed({
        sequence,
        tenant_id: '0199aaaa-0000-7000-8000-000000000001',
        time: '2026-01-01T00:00:00.000Z',
        actor: { type: 'user', id: null, name: 'ada@example.com' },
        action: 'thing.done',
        resource: { type: 'thing', id: String(sequence) },
        details: { n: sequence },
        outcome: 'allowed',
        ip: null,
        request_id: null,
        prev_hash: entries.at(-1)?.hash ?? GENESIS_HASH,
        hash: '',
      }),
    );
  }
  return entries;
}

function verify(entries: AuditEntry[], head: ChainHead | null = HEAD) {
  const verifier = new ChainVerifier();
  for (const entry of entries) verifier.add(entry);
  const { valid, problems } = verifier.finish(head);
  expect(valid).toBe(problems.length === 0);
  return problems.map(({ sequence, kind }) => `${sequence} ${kind}`);
}

const CHAIN = chain();
const HEAD = CHAIN.at(-1) as ChainHead;
const at = (sequence: number) => CHAIN[sequence - 1] as AuditEntry;
const replaced = (...changed: AuditEntry[]) =>
  CHAIN.map(entry => changed.find(({ sequence }) => sequence === entry.sequence) ?? entry);

describe('the verifier of a chain', () => {
  it('finds nothing in one that is whole, or empty', () => {
    expect(verify(CHAIN)).toEqual([]);
    expect(verify(CHAIN, null)).toEqual([]);
    expect(verify([], { sequence: 0, hash: GENESIS_HASH })).toEqual([]);
  });

  it.each([1, 2, 10, LENGTH])('names entry %i where any field of it was changed', sequence => {
    const other: Partial<Record<keyof AuditEntry, unknown>> = {
      tenant_id: null,
      time: '2026-01-01T00:00:00.001Z',
      actor: { type: 'user', id: null, name: 'eve@example.com' },
      action: 'thing.undone',
      resource: { type: 'thing', id: null },
      details: { n: sequence, more: null },
      outcome: 'denied',
      ip: '::1',
      request_id: 'x',
      prev_hash: 'f'.repeat(64),
      hash: 'f'.repeat(64),
    };
    for (const [field, value] of Object.entries(other)) {
      const found = verify(replaced({ ...at(sequence), [field]: value }));
      // Of the first one's tenant nothing says that it is another: all that follow say it.
      if (field === 'tenant_id' && sequence === 1) expect(found[0]).toBe('1 changed');
      else expect(found, field).toEqual([`${sequence} changed`]);
    }
  });

  it.each([2, 10, LENGTH - 1])('names entry %i where its hash was made anew too', sequence => {
    expect(verify(replaced(sealed({ ...at(sequence), action: 'thing.undone' })))).toEqual([
      `${sequence} changed`,
    ]);
    const unlinked = sealed({ ...at(sequence), prev_hash: 'f'.repeat(64) });
    expect(verify(replaced(unlinked)), 'and its link').toEqual([`${sequence} changed`]);
  });

  it('names the first and the last one where their hashes were made anew', () => {
    expect(verify(replaced(sealed({ ...at(1), action: 'x' })))).toEqual(['1 changed']);
    expect(verify(replaced(sealed({ ...at(1), prev_hash: 'f'.repeat(64) })))).toEqual(['1 changed']);
    expect(verify(replaced(sealed({ ...at(LENGTH), action: 'x' })))).toEqual([`${LENGTH} head`]);
    expect(verify(replaced(sealed({ ...at(LENGTH), prev_hash: 'f'.repeat(64) })))).toEqual([
      `${LENGTH} changed`,
    ]);
  });

  it('names each of several that were changed', () => {
    const changed = [3, 4, 9].map(sequence => ({ ...at(sequence), action: 'x' }));
    expect(verify(replaced(...changed))).toEqual(['3 changed', '4 changed', '9 changed']);
    expect(verify(replaced(...[3, 9].map(sequence => sealed({ ...at(sequence), action: 'x' }))))).toEqual([
      '3 changed',
      '9 changed',
    ]);
  });

  it('names what was removed: at the beginning, within, in a row, and at the end', () => {
    const without = (...gone: number[]) => CHAIN.filter(({ sequence }) => !gone.includes(sequence));
    expect(verify(without(1))).toEqual(['1 missing']);
    expect(verify(without(7))).toEqual(['7 missing']);
    expect(verify(without(7, 8, 9, 12))).toEqual(['7 missing', '12 missing']);
    expect(verify(without(19, 20))).toEqual(['19 missing']);
    expect(verify([])).toEqual(['1 missing']);
  });

  it('names what was removed so that those behind it moved up', () => {
    const moved = CHAIN.filter(({ sequence }) => sequence !== 7).map(entry =>
      entry.sequence > 7 ? { ...entry, sequence: entry.sequence - 1 } : entry,
    );
    expect(verify(moved).slice(0, 2)).toEqual(['7 reordered', '8 reordered']);
    expect(verify(moved.map(sealed))[0]).toBe('7 changed');
    expect(verify(moved.map(sealed)).at(-1)).toBe(`${LENGTH} missing`);
  });

  it('names what has changed places, in their content or as lines', () => {
    const swapped = replaced({ ...at(5), sequence: 6 }, { ...at(6), sequence: 5 });
    expect(verify(swapped)).toEqual(['5 reordered', '6 reordered']);
    const lines = [...CHAIN];
    [lines[4], lines[5]] = [at(6), at(5)];
    expect(verify(lines)).toEqual(['5 reordered']);
    expect(verify(CHAIN.toReversed()).length).toBe(LENGTH - 1);
  });

  it('names what is there twice', () => {
    expect(verify([...CHAIN.slice(0, 8), at(8), ...CHAIN.slice(8)])).toEqual(['8 duplicate']);
    expect(verify([...CHAIN, at(3)])).toEqual(['3 duplicate']);
  });

  it('names what stands behind the end, and an end that is another', () => {
    expect(verify(CHAIN, at(18))).toEqual(['19 head']);
    expect(verify(CHAIN, { ...HEAD, hash: 'f'.repeat(64) })).toEqual([`${LENGTH} head`]);
    expect(verify(CHAIN, { ...HEAD, sequence: 25 })).toEqual(['21 missing']);
    expect(verify(CHAIN, { sequence: 0, hash: GENESIS_HASH })).toEqual(['1 head']);
  });

  it('takes no entry of another chain', () => {
    const foreign = sealed({ ...at(5), tenant_id: '0199bbbb-0000-7000-8000-000000000001' });
    expect(verify(replaced(foreign))).toEqual(['5 changed']);
  });

  it('takes content that is no JSON for changed', () => {
    expect(verify(replaced({ ...at(5), details: { n: Infinity } }))).toEqual(['5 changed']);
  });

  it('names a hundred problems at most', () => {
    const verifier = new ChainVerifier();
    for (let sequence = 1; sequence <= 10_000; sequence++) verifier.add({ ...at(1), sequence });
    expect(verifier.finish(null).problems.length).toBe(100);
  });
});
