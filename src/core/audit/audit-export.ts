import { stringify } from 'csv-stringify/sync';
import { z } from 'zod';
import { type AuditEntry, type ChainHead, GENESIS_HASH, canonicalJson } from './audit-entry.js';

export type ExportFormat = 'jsonl' | 'csv';

const headSchema = z.object({ sequence: z.int().min(0), hash: z.string() });

/** The last line of an export: what it should hold. */
export const exportEndSchema = z.object({
  audit_export: z.object({
    tenant_id: z.string().nullable(),
    /** Where the chain ended when it was exported. */
    head: headSchema,
    /** Where this export ends. */
    last: headSchema,
    count: z.int().min(0),
    start_sequence: z.int().min(1),
    filters: z.record(z.string(), z.string()),
    /** The whole chain. */
    complete: z.boolean(),
    /** Entry follows entry: without that only single entries can be checked. */
    verifiable: z.boolean(),
    exported_at: z.string(),
  }),
});

export interface ExportEnd {
  tenantId: string | null;
  head: ChainHead;
  count: number;
  last: ChainHead | null;
  /** The sequence with which this export should end. */
  upTo: number;
  selection: { startSequence?: number; filters: Record<string, string> };
}

const CSV_COLUMNS = [
  'sequence',
  'time',
  'actor_type',
  'actor_id',
  'actor_name',
  'action',
  'resource_type',
  'resource_id',
  'outcome',
  'details',
  'ip',
  'request_id',
  'prev_hash',
  'hash',
];

/** @param first whether nothing was written before: a CSV begins with the names of its columns */
export function exportedEntries(
  format: ExportFormat,
  entries: readonly AuditEntry[],
  first: boolean,
): string {
  if (format === 'jsonl') return entries.map(entry => `${lineOf(entry)}\n`).join('');
  const rows = entries.map(entry => [
    entry.sequence,
    entry.time,
    entry.actor.type,
    entry.actor.id,
    entry.actor.name,
    entry.action,
    entry.resource.type,
    entry.resource.id,
    entry.outcome,
    lineOf(entry.details),
    entry.ip,
    entry.request_id,
    entry.prev_hash,
    entry.hash,
  ]);
  // A spreadsheet would run a name that begins like a formula.
  return stringify(first ? [CSV_COLUMNS, ...rows] : rows, { bom: first, escape_formulas: true });
}

/** What somebody has made of an entry in the database need not have a canonical form: it is exported to be found. */
function lineOf(value: object): string {
  try {
    return canonicalJson(value);
  } catch {
    return JSON.stringify(value);
  }
}

/** Nothing in a CSV, which has rows only. */
export function exportEnd(
  format: ExportFormat,
  { tenantId, head, count, last, upTo, selection }: ExportEnd,
): string {
  if (format === 'csv') return '';
  const { startSequence = 1, filters } = selection;
  const filtered = Object.keys(filters).length > 0;
  const whole = !filtered && startSequence === 1 && upTo === head.sequence;
  const end: z.infer<typeof exportEndSchema> = {
    audit_export: {
      tenant_id: tenantId,
      head,
      // Of the whole chain its own end, even where entries before it are gone: that is then seen.
      last: whole ? head : (last ?? { sequence: startSequence - 1, hash: GENESIS_HASH }),
      count,
      start_sequence: startSequence,
      filters,
      complete: whole,
      verifiable: !filtered,
      exported_at: new Date().toISOString(),
    },
  };
  return `${JSON.stringify(end)}\n`;
}
