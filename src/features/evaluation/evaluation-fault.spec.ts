import { describe, expect, it } from 'vitest';
import { ModelError } from '../../core/models/model.js';
import { Problem } from '../../foundation/http/problem.js';
import { faultOf } from './evaluation-fault.js';

const limited = (seconds: string) =>
  new Problem(429, 'rate_limited', 'Too many.', { headers: { 'retry-after': seconds } });

describe('a fault of one question', () => {
  it.each<[string, unknown, object | null]>([
    ['no credits', new Problem(402, 'insufficient_credits', '.'), { kind: 'stays' }],
    ['a right that is gone', Problem.forbidden('.'), { kind: 'stays', code: 'forbidden' }],
    ['a knowledge base that is gone', Problem.notFound('knowledge base'), { kind: 'stays' }],
    ['a limit that is soon over', limited('30'), { kind: 'passes', limited: true, delay: 30 }],
    ['a limit of the month', limited('400000'), { kind: 'stays', code: 'rate_limited' }],
    ['a model of another name', new Problem(422, 'unknown_model', '.'), { kind: 'question' }],
    ['a mode that is off', new Problem(422, 'graph_off', '.'), { kind: 'question', code: 'graph_off' }],
    ['other vectors', Problem.conflict('embedding_model_changed', '.'), { kind: 'question' }],
    ['what is not there now', Problem.unavailable('x', '.', 7), { kind: 'passes', limited: false, delay: 7 }],
    [
      'a model that is not there',
      new ModelError('model_unavailable', '.', true),
      { kind: 'passes', delay: 5 },
    ],
    [
      'a model that wants to be left alone',
      new ModelError('model_unavailable', '.', true, { retryAfter: 90 }),
      { kind: 'passes', delay: 90 },
    ],
    ['a model that refuses', new ModelError('model_rejected', '.', false), { kind: 'question' }],
    ['our own', new TypeError('undefined is not a function'), null],
  ])('%s', (_, error, expected) => {
    const fault = faultOf(error);
    if (expected) expect(fault).toMatchObject(expected);
    else expect(fault).toBeNull();
  });
});
