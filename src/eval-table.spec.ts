import { expect, it } from 'vitest';
import { evaluationTable } from './eval-table.js';
import type { WireEvaluation } from './features/evaluation/evaluations.dto.js';

const figures = (variant: string, ndcg: number): NonNullable<WireEvaluation['figures']>[number] => ({
  variant,
  questions: 2,
  failed: 0,
  judged: 2,
  recall_at_5: 0.5,
  recall_at_10: 1,
  recall: 1,
  mrr_at_10: 0.75,
  ndcg_at_10: ndcg,
  answered: 0.5,
  answered_answerable: 1,
  answered_unanswerable: 0.25,
  gold_in_answer: null,
  citation_precision: 0.9,
  latency_ms: { p50: 12.4, p95: 1234.5 },
  credits: 7,
  models: [],
});
const evaluation = (name: string, ...of: NonNullable<WireEvaluation['figures']>) =>
  ({
    name,
    variants: of.map(({ variant }) => ({ name: variant })),
    figures: of,
  }) as unknown as WireEvaluation;

it('puts evaluations side by side', () => {
  expect(
    evaluationTable([
      evaluation('Now', figures('hybrid', 0.81), figures('keyword', 0.7)),
      evaluation('Then', figures('default', 0.6)),
    ]),
  ).toEqual([
    '                recall@5  recall@10  MRR@10  nDCG@10  right cited  gold in answer  answered  declined  p50 ms  p95 ms  credits  failed',
    'Now · hybrid       0.500      1.000   0.750    0.810        0.900               -     1.000     0.750      12    1235        7       0',
    'Now · keyword      0.500      1.000   0.750    0.700        0.900               -     1.000     0.750      12    1235        7       0',
    'Then · default     0.500      1.000   0.750    0.600        0.900               -     1.000     0.750      12    1235        7       0',
  ]);
});

it('leaves out what has no figures', () => {
  expect(evaluationTable([{ ...evaluation('Now'), figures: null }])).toHaveLength(1);
});
