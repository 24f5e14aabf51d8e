import { describe, expect, it } from 'vitest';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import { ModelError } from './model.js';
import { faultOfAnswer, toModelError } from './model-fault.js';

const SUBJECT = 'The model "Stub"';

describe('faultOfAnswer', () => {
  it.each([
    [408, 'model_unavailable', true],
    [429, 'model_unavailable', true],
    [500, 'model_unavailable', true],
    [529, 'model_unavailable', true],
    [400, 'model_rejected', false],
    [401, 'model_rejected', false],
    [404, 'model_rejected', false],
    [413, 'model_rejected', false],
    [302, 'model_rejected', false],
  ])('reads %i as %s', (status, code, retryable) => {
    expect(faultOfAnswer(SUBJECT, status, undefined, 'no JSON')).toMatchObject({
      code,
      retryable,
      limited: status === 429,
      message: expect.stringContaining(`${SUBJECT} answered ${status}`),
    });
  });

  it.each([
    ['seconds', '7', 7],
    ['a part of one', '0.5', 0.5],
    ['a date that has passed', 'Wed, 21 Oct 2015 07:28:00 GMT', 0],
    ['a negative number', '-3', 0],
    ['nothing', '', null],
    ['what is neither', 'soon', null],
    ['no header', undefined, null],
  ])('reads Retry-After: %s', (_, header, expected) => {
    expect(faultOfAnswer(SUBJECT, 503, header, '').retryAfter).toBe(expected);
  });

  it('reads a date to come', () => {
    const header = new Date(Date.now() + 30_000).toUTCString();
    const { retryAfter } = faultOfAnswer(SUBJECT, 429, header, '');
    expect(retryAfter).toBeGreaterThan(28);
    expect(retryAfter).toBeLessThanOrEqual(30);
  });

  it('does not wait for an account without money, nor with what was refused', () => {
    const body = JSON.stringify({ error: { code: 'insufficient_quota', message: 'pay sk-secret' } });
    const fault = faultOfAnswer(SUBJECT, 429, '5', body);
    expect(fault).toMatchObject({ code: 'model_rejected', retryable: false, retryAfter: null });
    expect(fault.message).not.toContain('sk-secret');
    expect(faultOfAnswer(SUBJECT, 400, '5', '').retryAfter).toBeNull();
  });
});

describe('toModelError', () => {
  const wrapped = (cause: unknown) => new Error('sk-secret', { cause: new Error('more', { cause }) });

  it('finds what was said already, however deep it is wrapped', () => {
    const told = new ModelError('model_timeout', 'told', true);
    expect(toModelError(SUBJECT, wrapped(told))).toBe(told);
  });

  it.each<[string, unknown, string, boolean]>([
    [
      'nobody who listens',
      Object.assign(new Error('x'), { code: 'ECONNREFUSED' }),
      'model_unavailable',
      true,
    ],
    [
      'a socket that was closed',
      Object.assign(new Error('x'), { code: 'UND_ERR_SOCKET' }),
      'model_unavailable',
      true,
    ],
    ['no time left', new DOMException('x', 'TimeoutError'), 'model_timeout', true],
    ['what a library could not read', new SyntaxError('Unexpected token sk-secret'), 'model_rejected', false],
    ['a status', { status: 503 }, 'model_unavailable', true],
    ['a status, as Ollama calls it', { status_code: 404 }, 'model_rejected', false],
    ['a code that is none', Object.assign(new Error('x'), { code: 'whatever' }), 'model_rejected', false],
    ['nothing', undefined, 'model_rejected', false],
    ['a string', 'sk-secret', 'model_rejected', false],
  ])('reads %s, and quotes nothing', (_, error, code, retryable) => {
    const fault = toModelError(SUBJECT, error);
    expect(fault).toMatchObject({ code, retryable });
    expect(fault.message).toContain(SUBJECT);
    expect(`${fault.stack} ${JSON.stringify(fault)}`).not.toContain('sk-secret');
  });

  it('does not follow causes that go round in a circle', () => {
    const error = new Error('round');
    error.cause = error;
    expect(toModelError(SUBJECT, error)).toMatchObject({ code: 'model_rejected' });
  });

  it.each([
    ['timeout', 'model_timeout'],
    ['connection_failed', 'model_unavailable'],
    ['address_refused', 'model_rejected'],
  ] as const)('reads an address with %s as %s', (code, expected) => {
    const refused = new OutboundError(code);
    expect(toModelError(SUBJECT, wrapped(refused)).code).toBe(expected);
  });
});
