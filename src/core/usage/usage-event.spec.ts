import { expect, it } from 'vitest';
import { type UsageDetails, addDetails, toUsageRow } from './usage-event.js';

const event = {
  tenantId: 't',
  operation: 'search',
  durationMs: 1.5,
  outcome: 'success',
  status: 200,
} as const;

it('adds numbers up, and takes the last of everything else', () => {
  const known: UsageDetails = { operation: 'query', kbId: 'a' };
  addDetails(known, { model: 'embedder', embeddingTokens: 3, credits: 10 });
  addDetails(known, { model: 'chat', inputTokens: 100, outputTokens: 7, credits: 5 });
  addDetails(known, { embeddingTokens: 4, kbId: 'b' });
  expect(known).toEqual({
    operation: 'query',
    kbId: 'b',
    model: 'chat',
    embeddingTokens: 7,
    inputTokens: 100,
    outputTokens: 7,
    credits: 15,
  });
});

it.each([
  [{}, 'query'],
  [{ operation: 'query' }, 'query'],
  [{ operation: 'document.create' }, 'api'],
  [{ operation: 'document.ingest', status: undefined }, 'job'],
])('sorts %j as %s', (changes, kind) => {
  expect(toUsageRow({ ...event, ...changes }).kind).toBe(kind);
});

it('holds whole numbers only, whatever was counted', () => {
  const faulty = {
    inputTokens: NaN,
    outputTokens: -5,
    embeddingTokens: 1.4,
    credits: Infinity,
    durationMs: 0,
  };
  expect(toUsageRow({ ...event, ...faulty })).toMatchObject({
    input_tokens: 0,
    output_tokens: 0,
    embedding_tokens: 1,
    credits: 0,
    duration_us: 1,
    duration_bucket: 0,
  });
  expect(toUsageRow(event)).toMatchObject({ duration_us: 1500, user_id: null, by_platform: false });
});
