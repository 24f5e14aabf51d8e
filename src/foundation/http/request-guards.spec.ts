import { fastify } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sendProblem } from './problem.filter.js';
import type { Problem } from './problem.js';
import { guardRequests } from './request-guards.js';

const server = fastify({ routerOptions: { maxParamLength: 500 } });

beforeAll(async () => {
  guardRequests(server);
  server.setErrorHandler((error, request, reply) => sendProblem(error as unknown as Problem, request, reply));
  server.post('/things/:name', () => ({ ok: true }));
  await server.ready();
});
afterAll(() => server.close());

async function send(url: string, payload: unknown = {}): Promise<string> {
  const answer = await server.inject({
    method: 'POST',
    url,
    headers: { 'content-type': 'application/json' },
    payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
  });
  return answer.statusCode === 200 ? 'accepted' : `${answer.statusCode} ${answer.json().code}`;
}

const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

describe('guardRequests', () => {
  it.each([
    ['a plain body', '/things/a', { text: 'Grüezi 👋 \u0001 \u2028' }],
    ['no body', '/things/a', 'null'],
    ['32 levels', '/things/a', nested(32)],
    ['many elements', '/things/a', Array.from({ length: 50_000 }, () => 'x')],
  ])('lets %s in', async (_, url, payload) => {
    expect(await send(url, payload)).toBe('accepted');
  });

  it.each([
    ['NUL in a value', '/things/a', '{"text":"a\\u0000b"}'],
    ['NUL in a name', '/things/a', '{"a\\u0000b":1}'],
    ['NUL far inside', '/things/a', '{"a":[{"b":["\\u0000"]}]}'],
    ['NUL in the path', '/things/a%00b', '{}'],
    ['NUL in the query', '/things/a?search=a%00b', '{}'],
    ['a lone surrogate', '/things/a', '{"text":"\\ud800"}'],
    ['two surrogates the wrong way round', '/things/a', '{"text":"\\udc00\\ud800"}'],
  ])('refuses %s', async (_, url, payload) => {
    expect(await send(url, payload)).toBe('400 malformed_text');
  });

  it.each([33, 1_000, 100_000])('refuses %d levels', async levels => {
    expect(await send('/things/a', nested(levels))).toMatch(/^400 /);
    expect(await send('/things/a', `{"a":${nested(levels - 1)}}`)).toMatch(/^400 /);
  });
});
