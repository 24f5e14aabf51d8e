import canonicalize from 'canonicalize';
import { createHash } from 'node:crypto';

/** Something that was done, or denied, as the code that did it says it. */
export interface AuditEvent {
  /** `thing.done`, such as `member.added`. */
  action: string;
  resource: { type: string; id: string | null };
  /** What changed; never a secret. */
  details?: Record<string, unknown>;
  outcome?: 'allowed' | 'denied';
}

/** An entry of a chain, as it is exported, line by line, and hashed. */
export interface AuditEntry {
  /** From 1, without a gap. */
  sequence: number;
  /** Null: the chain of the platform. */
  tenant_id: string | null;
  /** ISO 8601 in UTC, with milliseconds. */
  time: string;
  actor: { type: string; id: string | null; name: string | null };
  action: string;
  resource: { type: string; id: string | null };
  details: Record<string, unknown>;
  outcome: 'allowed' | 'denied';
  ip: string | null;
  request_id: string | null;
  /** The hash of the entry before; 64 zeros in the first. */
  prev_hash: string;
  /** SHA-256, hexadecimal, over the canonical JSON (RFC 8785) of this entry without this field. */
  hash: string;
}

/** `prev_hash` of the first entry. */
export const GENESIS_HASH = '0'.repeat(64);

/** The end of a chain: its newest entry. */
export interface ChainHead {
  /** 0 where the chain is empty. */
  sequence: number;
  hash: string;
}

export const EMPTY_CHAIN: ChainHead = { sequence: 0, hash: GENESIS_HASH };

/** An entry before its place in the chain is known. */
export type UnchainedEntry = Omit<AuditEntry, 'sequence' | 'prev_hash' | 'hash'>;

export function hashOf(entry: AuditEntry): string {
  // canonicalJson() leaves out what is undefined.
  const text = canonicalJson({ ...entry, hash: undefined });
  return createHash('sha256').update(text).digest('hex');
}

/**
 * A value as JSON has it and as the database can hold it, so that what is hashed is what is stored: what is undefined
 * is not there, and U+FFFD stands for U+0000 and for halves of surrogate pairs, which no text of PostgreSQL holds.
 */
export function storable<T>(value: T): T {
  const text = JSON.stringify(value) as string | undefined;
  return (text === undefined ? null : replaceUnstorable(JSON.parse(text))) as T;
}

function replaceUnstorable(value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed().replaceAll('\0', '\uFFFD');
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(replaceUnstorable);
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [replaceUnstorable(key) as string, replaceUnstorable(item)]),
  );
}

/**
 * The canonical JSON of an entry in three pieces, between which the previous hash and the sequence belong: those are
 * known only to whoever holds the lock on the chain's head.
 */
export function canonicalParts(entry: UnchainedEntry): [string, string, string] {
  // Keys are sorted: …, "details", …, "prev_hash", …, "sequence", …. What details hold may look like the marks, but
  // stands before them; behind them there are strings only, in which no quote stands unescaped.
  const text = canonicalJson({ ...entry, prev_hash: '\u0001', sequence: 0 });
  const before = text.lastIndexOf('"prev_hash":"\\u0001"') + '"prev_hash":"'.length;
  const after = before + '\\u0001'.length;
  const number = text.lastIndexOf('"sequence":0,"tenant_id"') + '"sequence":'.length;
  return [text.slice(0, before), text.slice(after, number), text.slice(number + 1)];
}

/** RFC 8785. */
export function canonicalJson(value: object): string {
  const text = canonicalize(value);
  if (text === undefined) throw new Error('An audit entry is not JSON.');
  return text;
}
