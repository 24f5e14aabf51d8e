import { stringify } from 'csv-stringify/sync';
import type { LedgerEntry } from './credit-accounts.repository.js';
import { toLedgerEntry } from './credits.dto.js';

export type LedgerFormat = 'jsonl' | 'csv';

const CSV_COLUMNS = [
  'sequence',
  'created_at',
  'type',
  'delta',
  'amount',
  'balance_after',
  'operation',
  'lines',
  'reservation_id',
  'grant_id',
  'idempotency_key',
  'token_id',
  'user_id',
  'note',
  'id',
] as const;

/** @param first whether nothing was written before: a CSV begins with the names of its columns */
export function exportedLedger(
  format: LedgerFormat,
  entries: readonly LedgerEntry[],
  first: boolean,
): string {
  const items = entries.map(toLedgerEntry);
  if (format === 'jsonl') return items.map(item => `${JSON.stringify(item)}\n`).join('');
  const rows = items.map(item =>
    CSV_COLUMNS.map(column => (column === 'lines' ? JSON.stringify(item.lines) : item[column])),
  );
  // A spreadsheet would run a note that begins like a formula.
  return stringify(first ? [[...CSV_COLUMNS], ...rows] : rows, { bom: first, escape_formulas: true });
}
