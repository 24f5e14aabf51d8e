import { StringDecoder } from 'node:string_decoder';
import { z } from 'zod';
import { type AuditEntry, type ChainHead, canonicalJson } from './audit-entry.js';
import { exportEndSchema } from './audit-export.js';
import { type ChainProblem, ChainVerifier } from './chain-verifier.js';

/** What is no export of the audit in JSON lines, or one that cannot be verified. */
export class AuditFileError extends Error {
  override readonly name = 'AuditFileError';
}

export interface AuditFileReport {
  valid: boolean;
  entries: number;
  problems: ChainProblem[];
  /** Null where there is no entry. */
  head: ChainHead | null;
  /** Whether something says where the chain ends: the last line of the export, or whoever verifies it. */
  endKnown: boolean;
}

/** Characters of one line: an entry has a few thousand at most. */
const LONGEST_LINE = 16 * 1024 * 1024;

const entrySchema = z.strictObject({
  sequence: z.int().min(1),
  tenant_id: z.string().nullable(),
  time: z.string().nullable(),
  actor: z.strictObject({ type: z.string(), id: z.string().nullable(), name: z.string().nullable() }),
  action: z.string(),
  resource: z.strictObject({ type: z.string(), id: z.string().nullable() }),
  details: z.record(z.string(), z.unknown()),
  outcome: z.string(),
  ip: z.string().nullable(),
  request_id: z.string().nullable(),
  prev_hash: z.string(),
  hash: z.string(),
});

type End = z.infer<typeof exportEndSchema>['audit_export'];

/**
 * Verifies an export of the audit, line by line, without anything but the file. It trusts nothing in it: whoever can
 * change entries can change the last line too, which therefore only ever adds to what must be right.
 *
 * @param options.first the sequence that the export begins with; from another than 1 on, what was before is not proven
 * @param options.head the hash of the newest entry, kept elsewhere
 * @throws AuditFileError
 */
export async function verifyAuditFile(
  chunks: AsyncIterable<Buffer>,
  { first = 1, head }: { first?: number; head?: string } = {},
): Promise<AuditFileReport> {
  const verifier = new ChainVerifier(first);
  let end: End | null = null;
  let number = 0;
  let known = false;
  for await (const text of lines(chunks)) {
    number++;
    if (text.trim() === '') continue;
    const value = parse(text);
    const at = `Line ${number}`;
    const sequence = (verifier.end?.sequence ?? first - 1) + 1;
    if (end) {
      verifier.report({
        sequence,
        kind: 'changed',
        message: `${at} stands behind the end of the export.`,
        line: number,
      });
    }
    const trailer = isRecord(value) && 'audit_export' in value ? exportEndSchema.safeParse(value) : null;
    if (trailer?.success) {
      known = true;
      end ??= trailer.data.audit_export;
      continue;
    }
    const entry = entrySchema.safeParse(value);
    if (!entry.success) {
      if (!known) throw new AuditFileError(`${at} is no entry of an audit exported as JSON lines.`);
      verifier.report({ sequence, kind: 'changed', message: `${at} is not an entry.`, line: number });
      continue;
    }
    known = true;
    if (!isAsExported(text, entry.data)) {
      // JSON in which a name stands twice, or a number is written in another way, reads as what it does not say.
      verifier.report({
        sequence: entry.data.sequence,
        kind: 'changed',
        message: `Entry ${entry.data.sequence} is not written as it was exported.`,
        line: number,
      });
    }
    verifier.add(entry.data as AuditEntry, number);
  }
  if (!known) throw new AuditFileError('There is nothing in this file.');
  if (end && !end.verifiable) {
    throw new AuditFileError(
      'This export is what a filter left of the chain, so that nothing shows whether entries are missing. Export without filters.',
    );
  }
  return conclude(verifier, first, end, head);
}

function conclude(
  verifier: ChainVerifier,
  first: number,
  end: End | null,
  head: string | undefined,
): AuditFileReport {
  const newest = verifier.end;
  const report = verifier.finish(end && (newest !== null || end.last.sequence >= first) ? end.last : null);
  const problems = [...report.problems];
  if (head !== undefined && newest?.hash !== head.toLowerCase()) {
    const message = newest
      ? `The last entry, ${newest.sequence}, has the hash ${newest.hash}, and not the one that was given.`
      : 'There is no entry, and so none with the hash that was given.';
    problems.push({ sequence: newest?.sequence ?? first, kind: 'head', message });
  }
  return {
    valid: problems.length === 0,
    entries: report.entries,
    problems,
    head: newest,
    endKnown: end !== null || head !== undefined,
  };
}

const isRecord = (value: unknown): value is object => typeof value === 'object' && value !== null;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isAsExported(text: string, entry: object): boolean {
  try {
    return canonicalJson(entry) === text;
  } catch {
    return false;
  }
}

/** The lines of a text in UTF-8 without their ends, and without a byte order mark. */
async function* lines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let begun = false;
  for await (const chunk of chunks) {
    let text = decoder.write(chunk);
    if (!begun && text !== '') {
      begun = true;
      text = text.replace(/^\uFEFF/, '');
    }
    const parts = text.split('\n');
    parts[0] = rest + parts[0];
    rest = parts.pop() as string;
    for (const line of parts) yield line.replace(/\r$/, '');
    if (rest.length > LONGEST_LINE) throw new AuditFileError('A line of this file is longer than any entry.');
  }
  rest += decoder.end();
  if (rest !== '') yield rest.replace(/\r$/, '');
}
