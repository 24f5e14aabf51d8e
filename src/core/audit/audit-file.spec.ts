import { describe, expect, it } from 'vitest';
import { type AuditEntry, GENESIS_HASH, hashOf } from './audit-entry.js';
import { exportEnd, exportedEntries } from './audit-export.js';
import { AuditFileError, verifyAuditFile } from './audit-file.js';

const ENTRIES = chain(30);
const HEAD = ENTRIES.at(-1) as AuditEntry;

function chain(length: number): AuditEntry[] {
  const entries: AuditEntry[] = [];
  for (let sequence = 1; sequence <= length; sequence++) {
    const entry: AuditEntry = {
      sequence,
      tenant_id: null,
      time: '2026-01-01T00:00:00.000Z',
      actor: { type: 'user', id: null, name: 'zoë 🦉 "quoted" \\ \u0001 \u2028' },
      action: 'thing.done',
      resource: { type: 'thing', id: null },
      details: { amount: 1, text: 'ü'.repeat(50) },
      outcome: 'allowed',
      ip: null,
      request_id: null,
      prev_hash: entries.at(-1)?.hash ?? GENESIS_HASH,
      hash: '',
    };
    entries.push({ ...entry, hash: hashOf(entry) });
  }
  return entries;
}

/** An export, as lines without their ends. */
function exported(from = 1, to = ENTRIES.length, filters: Record<string, string> = {}): string[] {
  const entries = ENTRIES.slice(from - 1, to);
  const end = exportEnd('jsonl', {
    tenantId: null,
    head: { sequence: HEAD.sequence, hash: HEAD.hash },
    count: entries.length,
    last: entries.at(-1) ?? null,
    upTo: to,
    selection: { startSequence: from, filters },
  });
  return (exportedEntries('jsonl', entries, true) + end).trimEnd().split('\n');
}

async function* inPieces(text: string | Buffer, size: number): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text as string);
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

const verify = (
  content: string[] | string,
  options: Parameters<typeof verifyAuditFile>[1] = {},
  pieces = 1000,
) => verifyAuditFile(inPieces(typeof content === 'string' ? content : content.join('\n'), pieces), options);

async function problemsOf(...parameters: Parameters<typeof verify>): Promise<string[]> {
  const { valid, problems } = await verify(...parameters);
  expect(valid).toBe(problems.length === 0);
  return problems.map(({ sequence, kind, line }) => `${line ?? '-'}: ${sequence} ${kind}`);
}

const changedAt = (line: number, change: (text: string) => string): string[] =>
  exported().map((text, index) => (index === line - 1 ? change(text) : text));

describe('an export', () => {
  it('verifies, however it is cut into pieces', async () => {
    for (const size of [1, 3, 1000, 1_000_000]) {
      expect(await verify(exported(), {}, size)).toEqual({
        valid: true,
        entries: 30,
        problems: [],
        head: { sequence: 30, hash: HEAD.hash },
        endKnown: true,
      });
    }
  });

  it('verifies with a byte order mark, with CRLF and with empty lines', async () => {
    expect(await problemsOf(`\uFEFF${exported().join('\r\n')}\r\n`)).toEqual([]);
    expect(await problemsOf([...exported(), '', ''])).toEqual([]);
  });

  it('verifies without its last line, but does not prove its end', async () => {
    const lines = exported().slice(0, -1);
    expect(await verify(lines)).toMatchObject({ valid: true, entries: 30, endKnown: false });
    expect(await verify(lines.slice(0, -5))).toMatchObject({ valid: true, entries: 25, endKnown: false });
    expect(await verify(lines, { head: HEAD.hash.toUpperCase() })).toMatchObject({
      valid: true,
      endKnown: true,
    });
    expect(await problemsOf(lines.slice(0, -5), { head: HEAD.hash })).toEqual(['-: 25 head']);
  });

  it('with a line changed, removed, moved or doubled names it', async () => {
    expect(await problemsOf(changedAt(7, text => text.replace('thing.done', 'thing.gone')))).toEqual([
      '7: 7 changed',
    ]);
    expect(await problemsOf(exported().toSpliced(6, 1))).toEqual(['7: 7 missing']);
    expect(await problemsOf(exported().toSpliced(29, 1))).toEqual(['-: 30 missing']);
    const lines = exported();
    [lines[6], lines[7]] = [lines[7] as string, lines[6] as string];
    expect(await problemsOf(lines)).toEqual(['8: 7 reordered']);
    expect(await problemsOf(exported().toSpliced(6, 0, exported()[6] as string))).toEqual(['8: 7 duplicate']);
  });

  it('is found out however little of a line was changed', async () => {
    const changes: Array<(text: string) => string> = [
      text => text.replace('"amount":1', '"amount":1.0'),
      text => text.replace('"amount":1', '"amount":2,"amount":1'),
      text => text.replace('{', '{ '),
      text => text.replace('zoë', 'zo\\u00eb'),
      text => text.replace('"ip":null,', ''),
      text => text.replace('"ip":null', '"ip":null,"note":null'),
      text => text.slice(0, -1),
      () => '[]',
      () => 'null',
    ];
    for (const change of changes) {
      const [found] = await problemsOf(changedAt(7, change));
      expect(found, String(change)).toMatch(/^7: 7 (changed|missing)$/);
    }
  });

  it('names what stands behind its end', async () => {
    expect(await problemsOf([...exported(), ...exported()])).toContain('32: 31 changed');
  });

  it('of a range verifies only where that was expected', async () => {
    expect(await problemsOf(exported(10, 20), { first: 10 })).toEqual([]);
    expect(await problemsOf(exported(10, 20))).toEqual(['1: 1 missing']);
    expect(await problemsOf(exported(10, 20).toSpliced(10, 1), { first: 10 })).toEqual(['-: 20 missing']);
    expect(await problemsOf(exported(1, 20))).toEqual([]);
  });

  it('of no entry says so', async () => {
    expect(await verify(exported(31, 40), { first: 31 })).toMatchObject({
      valid: true,
      entries: 0,
      head: null,
    });
    expect(await problemsOf([exported().at(-1) as string])).toEqual(['-: 1 missing']);
  });

  it.each([
    ['nothing', ''],
    ['empty lines', '\n\n'],
    ['a CSV', 'sequence,time\n1,2026-01-01'],
    ['a binary file', '\0\xff\xfe'],
    ['other JSON lines', '{"a":1}\n{"b":2}'],
    ['one JSON document', '[\n{}\n]'],
  ])('is not %s', async (_, text) => {
    await expect(verify(text)).rejects.toThrow(AuditFileError);
  });

  it('of a filter cannot be verified, and says so', async () => {
    const lines = exported(1, 30, { action: 'member.*' });
    await expect(verify(lines)).rejects.toThrow(/filter/);
  });

  it('has no line without an end', async () => {
    const endless = async function* () {
      yield Buffer.from(`${exported()[0]}\n`);
      for (let i = 0; i < 40; i++) yield Buffer.alloc(1024 * 1024, 'x');
    };
    await expect(verifyAuditFile(endless())).rejects.toThrow(/longer than any entry/);
  });
});

describe('an export for spreadsheets', () => {
  it('runs no formula', () => {
    const entry = { ...(ENTRIES[0] as AuditEntry), actor: { type: 'user', id: null, name: '=cmd|x' } };
    const [header, row] = exportedEntries('csv', [entry], true).split('\n');
    expect(header).toMatch(/^\uFEFFsequence,time,actor_type,/);
    expect(row).toContain(",'=cmd|x,");
    expect(exportedEntries('csv', [entry], false)).not.toContain('sequence,time');
  });
});
