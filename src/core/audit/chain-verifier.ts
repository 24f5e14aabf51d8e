import { createHash } from 'node:crypto';
import { type AuditEntry, type ChainHead, GENESIS_HASH, canonicalParts, hashOf } from './audit-entry.js';

/** What is wrong with a chain, and where. */
export interface ChainProblem {
  /** The first one, where several entries are missing. */
  sequence: number;
  kind: 'changed' | 'missing' | 'reordered' | 'duplicate' | 'head';
  message: string;
  /** Of a file: the line at which it was noticed. */
  line?: number;
}

export interface ChainReport {
  valid: boolean;
  /** That were read. */
  entries: number;
  /** By sequence; the first hundred that were met. */
  problems: ChainProblem[];
}

const MOST_PROBLEMS = 100;
/** How far from its place an entry that was moved is looked for. */
const FARTHEST_MOVE = 1_000;

interface Seen extends ChainHead {
  /** Whether its own hash is right, so that its links mean something. */
  intact: boolean;
  line?: number;
}

interface Gap {
  from: number;
  to: number;
  line?: number;
}

/**
 * Walks a chain, entry by entry, in the order in which they stand; keeps no more of it than the end and what is wrong.
 *
 * An entry whose hash is not that of its content was changed. Where all hashes are right but a link is not, somebody
 * has worked the hash out anew: the entry after it still names the old one.
 */
export class ChainVerifier {
  private last: Seen | null;
  private tenantId: string | null | undefined;
  private entries = 0;
  private readonly problems: ChainProblem[] = [];
  private gaps: Gap[] = [];
  /** The left side of a broken link, until the next link tells whether the left or the right side was changed. */
  private suspect: Seen | null = null;
  private lastLinkBroken = false;

  /** @param first sequence of the first entry: what stood before another one than 1 cannot be checked */
  constructor(private readonly first = 1) {
    this.last = first === 1 ? { sequence: 0, hash: GENESIS_HASH, intact: true } : null;
  }

  /** The newest entry so far; null before the first. */
  get end(): ChainHead | null {
    return this.last && this.entries > 0 ? { sequence: this.last.sequence, hash: this.last.hash } : null;
  }

  add(entry: AuditEntry, line?: number): void {
    this.entries++;
    const expected = this.last ? this.last.sequence + 1 : this.first;
    if (entry.sequence < expected) {
      this.addLate(entry, line);
      return;
    }
    if (entry.sequence > expected) this.gaps.push({ from: expected, to: entry.sequence - 1, line });
    const seen = { sequence: entry.sequence, hash: entry.hash, intact: this.isIntact(entry, line), line };
    const linkable = this.last?.intact && seen.intact && entry.sequence === expected;
    if (linkable) this.checkLink(this.last as Seen, seen, entry.prev_hash);
    else this.settleSuspect();
    this.last = seen;
  }

  /** @param head where the chain must end; null: nothing is known about that */
  finish(head: ChainHead | null): ChainReport {
    const last = this.last ?? { sequence: this.first - 1, hash: '', intact: false };
    if (this.suspect && head?.sequence === last.sequence && head.hash !== last.hash) {
      // Neither the entry before nor the end of the chain knows the last one.
      this.suspect = null;
      this.reportChanged(last, 'the entry before it and the end of the chain name others');
    } else if (head && last.sequence < head.sequence) {
      this.gaps.push({ from: last.sequence + 1, to: head.sequence });
    } else if (head && last.sequence > head.sequence) {
      const sequence = head.sequence + 1;
      const message = `The chain ends with entry ${head.sequence}, but there are entries behind it.`;
      this.report({ sequence, kind: 'head', message });
    } else if (head && last.intact && last.hash !== head.hash) {
      const message = `The last entry, ${last.sequence}, is not the one that the chain ends with: it, or the end, was changed.`;
      this.report({ sequence: last.sequence, kind: 'head', message, line: last.line });
    }
    this.settleSuspect();
    for (const { from, to, line } of this.gaps.slice(0, MOST_PROBLEMS)) {
      const what = from === to ? `Entry ${from} is missing.` : `Entries ${from} to ${to} are missing.`;
      this.problems.push({ sequence: from, kind: 'missing', message: what, line });
    }
    const problems = this.problems.toSorted((a, b) => a.sequence - b.sequence).slice(0, MOST_PROBLEMS);
    return { valid: problems.length === 0, entries: this.entries, problems };
  }

  /** Says of a line that holds no entry what is wrong. */
  report(problem: ChainProblem): void {
    if (this.problems.length < MOST_PROBLEMS) this.problems.push(problem);
  }

  /** An entry behind one that follows it: moved there, or there twice. */
  private addLate(entry: AuditEntry, line?: number): void {
    const { sequence } = entry;
    if (!this.isIntact(entry, line)) return;
    const gap = this.gaps.find(({ from, to }) => from <= sequence && sequence <= to);
    if (!gap) {
      this.report({ sequence, kind: 'duplicate', message: `Entry ${sequence} is there twice.`, line });
      return;
    }
    this.gaps = this.gaps.flatMap(other =>
      other === gap
        ? [
            { ...gap, to: sequence - 1 },
            { ...gap, from: sequence + 1 },
          ].filter(({ from, to }) => from <= to)
        : [other],
    );
    const message = `Entry ${sequence} stands behind entry ${this.last?.sequence}: entries were reordered.`;
    this.report({ sequence, kind: 'reordered', message, line });
  }

  /** Whether the entry's hash is that of its content; says so where it is not. */
  private isIntact(entry: AuditEntry, line?: number): boolean {
    const { sequence } = entry;
    if (this.tenantId === undefined) this.tenantId = entry.tenant_id;
    if (entry.tenant_id !== this.tenantId) {
      const message = `Entry ${sequence} belongs to another chain.`;
      this.report({ sequence, kind: 'changed', message, line });
      return false;
    }
    if (hasOwnHash(entry)) return true;
    // Looking for where it stood costs thousands of hashes.
    const stoodAt = this.problems.length < MOST_PROBLEMS ? formerPlace(entry) : null;
    this.report(
      stoodAt === null
        ? { sequence, kind: 'changed', message: `Entry ${sequence} was changed.`, line }
        : {
            sequence,
            kind: 'reordered',
            message: `What stands at ${sequence} is entry ${stoodAt}: entries were reordered.`,
            line,
          },
    );
    return false;
  }

  private checkLink(left: Seen, right: Seen, previousHash: string): void {
    if (previousHash === left.hash) {
      this.settleSuspect();
      return;
    }
    if (left.sequence === 0) {
      this.reportChanged(right, 'it is the first, and names another before it');
    } else if (this.lastLinkBroken) {
      this.suspect = null;
      this.reportChanged(left, 'neither the entry before it nor the one after it fits');
    } else {
      this.suspect = left;
    }
    this.lastLinkBroken = true;
  }

  private settleSuspect(): void {
    if (this.suspect) this.reportChanged(this.suspect, 'the entry after it names another hash');
    this.suspect = null;
    this.lastLinkBroken = false;
  }

  private reportChanged({ sequence, line }: Seen, because: string): void {
    if (this.problems.at(-1)?.sequence === sequence) return;
    const message = `Entry ${sequence} was changed, and its hash made anew: ${because}.`;
    this.report({ sequence, kind: 'changed', message, line });
  }
}

function hasOwnHash(entry: AuditEntry): boolean {
  try {
    return hashOf(entry) === entry.hash;
  } catch {
    // What is no JSON any more is not what was written.
    return false;
  }
}

/** The sequence with which an entry's hash is right, near the one that it has; null where there is none. */
function formerPlace({ sequence, prev_hash, hash, ...entry }: AuditEntry): number | null {
  try {
    const [before, between, behind] = canonicalParts(entry);
    for (let distance = 1; distance <= FARTHEST_MOVE; distance++) {
      for (const place of [sequence - distance, sequence + distance]) {
        const text = before + prev_hash + between + place + behind;
        if (place > 0 && createHash('sha256').update(text).digest('hex') === hash) return place;
      }
    }
  } catch {
    // Changed beyond that.
  }
  return null;
}
