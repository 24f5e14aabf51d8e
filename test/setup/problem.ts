import { expect } from 'vitest';
import type { Answer } from './client.js';

/** Expects an error as this API words all of them: RFC 9457, with a code, and the id of the request in body and header. */
export function expectProblem(answer: Answer, status: number, code: string): void {
  const { body, headers } = answer;
  expect({ status: answer.status, code: body?.code, body }).toMatchObject({ status, code });
  expect(headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect(body).toMatchObject({
    type: 'about:blank',
    status,
    title: expect.any(String),
    detail: expect.any(String),
  });
  expect(body.instance).toMatch(/^\//);
  expect(body.request_id).toBe(headers.get('x-request-id'));
}
