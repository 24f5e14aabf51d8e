import type { Outcome, VariantFigures } from './evaluation.js';
import { mean, percentile } from './metrics.js';

/** An outcome, with what is known of its question. */
export interface JudgedOutcome {
  outcome: Pick<Outcome, 'ranking' | 'answer' | 'latency' | 'credits' | 'error'>;
  answerable: boolean | null;
}

/** Decimals of shares and means. */
const DIGITS = 4;

/** Puts the outcomes of one variant together. */
export function figuresOf(variant: string, outcomes: readonly JudgedOutcome[]): VariantFigures {
  const asked = outcomes.filter(({ outcome }) => outcome.error === null);
  const rankings = asked.flatMap(({ outcome }) => outcome.ranking ?? []);
  const answers = asked.flatMap(({ outcome: { answer }, answerable }) =>
    answer ? [{ ...answer, answerable }] : [],
  );
  const latencies = asked.map(({ outcome }) => outcome.latency);
  const answeredOf = (which: readonly { answered: boolean }[]) =>
    share(which.map(({ answered }) => answered));
  // Of a question without an answer no citation is right, whatever it cites: those are counted by what was answered at all.
  const cited = answers.filter(
    ({ right_citations, answerable }) => right_citations !== null && answerable !== false,
  );
  const citations = total(cited.map(answer => answer.citations));
  return {
    variant,
    questions: outcomes.length,
    failed: outcomes.length - asked.length,
    judged: rankings.length,
    recall_at_5: rounded(mean(rankings.map(({ recall_at_5 }) => recall_at_5))),
    recall_at_10: rounded(mean(rankings.map(({ recall_at_10 }) => recall_at_10))),
    recall: rounded(mean(rankings.map(({ recall }) => recall))),
    mrr_at_10: rounded(mean(rankings.map(({ mrr_at_10 }) => mrr_at_10))),
    ndcg_at_10: rounded(mean(rankings.map(({ ndcg_at_10 }) => ndcg_at_10))),
    answered: answeredOf(answers),
    answered_answerable: answeredOf(answers.filter(({ answerable }) => answerable === true)),
    answered_unanswerable: answeredOf(answers.filter(({ answerable }) => answerable === false)),
    gold_in_answer: share(answers.flatMap(({ holds_gold }) => (holds_gold === null ? [] : [holds_gold]))),
    citation_precision:
      citations === 0 ? null : rounded(total(cited.map(answer => answer.right_citations ?? 0)) / citations),
    latency_p50: rounded(percentile(latencies, 0.5), 1),
    latency_p95: rounded(percentile(latencies, 0.95), 1),
    credits: total(outcomes.map(({ outcome }) => outcome.credits)),
    models: [...new Set(answers.map(({ model }) => model))].toSorted(),
  };
}

const share = (values: readonly boolean[]): number | null => rounded(mean(values.map(Number)));

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

const rounded = (value: number | null, digits = DIGITS): number | null =>
  value === null ? null : Number(value.toFixed(digits));
