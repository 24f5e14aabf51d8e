import { describe, expect, it } from 'vitest';
import { type Outcome, stepOf } from './evaluation.js';
import { figuresOf } from './figures.js';

const outcome = (fields: Partial<Outcome> = {}): Outcome => ({
  passages: [],
  ranking: null,
  answer: null,
  latency: 10,
  credits: 0,
  error: null,
  ...fields,
});
const answer = (fields: Partial<NonNullable<Outcome['answer']>> = {}): NonNullable<Outcome['answer']> => ({
  answered: true,
  holds_gold: null,
  citations: 0,
  right_citations: null,
  model: 'stub',
  ...fields,
});
const ranking = (value: number) => ({
  recall_at_5: value,
  recall_at_10: value,
  recall: value,
  mrr_at_10: value,
  ndcg_at_10: value,
});

describe('figures', () => {
  it('are of nothing where nothing was asked', () => {
    expect(figuresOf('v', [])).toEqual({
      variant: 'v',
      questions: 0,
      failed: 0,
      judged: 0,
      recall_at_5: null,
      recall_at_10: null,
      recall: null,
      mrr_at_10: null,
      ndcg_at_10: null,
      answered: null,
      answered_answerable: null,
      answered_unanswerable: null,
      gold_in_answer: null,
      citation_precision: null,
      latency_p50: null,
      latency_p95: null,
      credits: 0,
      models: [],
    });
  });

  it('are means of what was judged, and leave out what failed', () => {
    const failed = outcome({ latency: 0, error: { code: 'model_rejected', message: 'No.' } });
    const figures = figuresOf('v', [
      { outcome: outcome({ ranking: ranking(1), latency: 10, credits: 3 }), answerable: true },
      { outcome: outcome({ ranking: ranking(0.5), latency: 30, credits: 4 }), answerable: true },
      { outcome: outcome({ latency: 20 }), answerable: null },
      { outcome: failed, answerable: true },
    ]);
    expect(figures).toMatchObject({ questions: 4, failed: 1, judged: 2, credits: 7 });
    expect(figures).toMatchObject({ recall_at_5: 0.75, mrr_at_10: 0.75, ndcg_at_10: 0.75 });
    expect(figures).toMatchObject({ latency_p50: 20, latency_p95: 30, answered: null });
  });

  it('tell apart questions that have an answer and those that have none', () => {
    const asked = (answered: boolean, answerable: boolean | null) => ({
      outcome: outcome({ answer: answer({ answered }) }),
      answerable,
    });
    const figures = figuresOf('v', [
      asked(true, true),
      asked(true, true),
      asked(false, true),
      asked(true, false),
      asked(false, null),
    ]);
    expect(figures).toMatchObject({
      answered: 0.6,
      answered_answerable: 0.6667,
      answered_unanswerable: 1,
      models: ['stub'],
    });
  });

  it('count citations, not questions, and none of questions without an answer', () => {
    const cited = (citations: number, right: number | null, answerable: boolean | null) => ({
      outcome: outcome({ answer: answer({ citations, right_citations: right }) }),
      answerable,
    });
    const figures = figuresOf('v', [
      cited(3, 3, true),
      cited(1, 0, true),
      cited(5, null, null),
      cited(2, 0, false),
    ]);
    expect(figures.citation_precision).toBe(0.75);
  });

  it('say how often a right answer stood in what was said', () => {
    const said = (holds: boolean | null) => ({
      outcome: outcome({ answer: answer({ holds_gold: holds }) }),
      answerable: true,
    });
    expect(figuresOf('v', [said(true), said(false), said(null), said(true)]).gold_in_answer).toBe(0.6667);
  });
});

describe('the order of asking', () => {
  it('takes each question in all variants, and each variant first as often', () => {
    const steps = Array.from({ length: 9 }, (_, step) => stepOf(step, 3));
    expect(steps.map(({ question }) => question)).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2]);
    expect(steps.map(({ variant }) => variant)).toEqual([0, 1, 2, 1, 2, 0, 2, 0, 1]);
  });

  it('leaves none out, however many there are', () => {
    for (const variants of [1, 2, 3, 5, 8]) {
      const steps = Array.from({ length: 11 * variants }, (_, step) => stepOf(step, variants));
      expect(new Set(steps.map(({ question, variant }) => `${question} ${variant}`)).size).toBe(
        11 * variants,
      );
      expect(Math.max(...steps.map(({ variant }) => variant))).toBe(variants - 1);
    }
  });
});
