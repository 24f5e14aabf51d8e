import type { WireEvaluation } from './features/evaluation/evaluations.dto.js';

type Figures = NonNullable<WireEvaluation['figures']>[number];

/** Each with its title, and what stands in it. */
const COLUMNS: ReadonlyArray<readonly [title: string, value: (figures: Figures) => string]> = [
  ['recall@5', ({ recall_at_5 }) => share(recall_at_5)],
  ['recall@10', ({ recall_at_10 }) => share(recall_at_10)],
  ['MRR@10', ({ mrr_at_10 }) => share(mrr_at_10)],
  ['nDCG@10', ({ ndcg_at_10 }) => share(ndcg_at_10)],
  ['right cited', ({ citation_precision }) => share(citation_precision)],
  ['gold in answer', ({ gold_in_answer }) => share(gold_in_answer)],
  ['answered', ({ answered_answerable }) => share(answered_answerable)],
  ['declined', ({ answered_unanswerable: answered }) => share(answered === null ? null : 1 - answered)],
  ['p50 ms', ({ latency_ms: { p50 } }) => (p50 === null ? NONE : p50.toFixed(0))],
  ['p95 ms', ({ latency_ms: { p95 } }) => (p95 === null ? NONE : p95.toFixed(0))],
  ['credits', ({ credits }) => String(credits)],
  ['failed', ({ failed }) => String(failed)],
];
const NONE = '-';

/**
 * Evaluations side by side, a line for each variant; the first column says which.
 *
 * `answered` is of the questions that the documents answer, `declined` of those that they do not.
 */
export function evaluationTable(evaluations: readonly WireEvaluation[]): string[] {
  const rows = evaluations.flatMap(({ name, variants, figures }) =>
    (figures ?? []).map(of => [
      evaluations.length > 1 || variants.length > 1 ? `${name} · ${of.variant}` : name,
      ...COLUMNS.map(([, value]) => value(of)),
    ]),
  );
  const lines = [['', ...COLUMNS.map(([title]) => title)], ...rows];
  const widths =
    lines[0]?.map((_, column) => Math.max(...lines.map(line => line[column]?.length ?? 0))) ?? [];
  return lines.map(line =>
    line
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}

const share = (value: number | null): string => (value === null ? NONE : value.toFixed(3));
