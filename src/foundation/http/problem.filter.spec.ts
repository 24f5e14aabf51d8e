import {
  BadRequestException,
  ForbiddenException,
  Logger,
  NotFoundException,
  type ArgumentsHost,
} from '@nestjs/common';
import { fastify } from 'fastify';
import type { AddressInfo } from 'node:net';
import { Client } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { ProblemFilter, sendProblem } from './problem.filter.js';
import { Problem } from './problem.js';

const server = fastify();
let thrown: unknown;
const logged = { warn: vi.spyOn(Logger.prototype, 'warn'), error: vi.spyOn(Logger.prototype, 'error') };

beforeAll(async () => {
  const filter = new ProblemFilter();
  server.get('/thing', (request, reply) => {
    filter.catch(thrown, {
      switchToHttp: () => ({ getRequest: () => request, getResponse: () => reply }),
    } as ArgumentsHost);
    return reply;
  });
  server.get('/stream', (request, reply) => {
    reply.raw.writeHead(200, { 'content-length': '100' });
    reply.raw.write('the beginning');
    filter.catch(thrown, {
      switchToHttp: () => ({ getRequest: () => request, getResponse: () => reply }),
    } as ArgumentsHost);
    return reply;
  });
  server.get('/twice', async (request, reply) => {
    await Promise.resolve();
    sendProblem(Problem.unavailable('timeout', 'It took too long.'), request, reply);
    await Promise.resolve();
    // What was waited for has noticed, and throws.
    sendProblem(Problem.unavailable('timeout', 'It took too long.'), request, reply);
    return reply;
  });
  await server.listen({ port: 0, host: '127.0.0.1' });
});
beforeEach(() => Object.values(logged).forEach(spy => spy.mockReset().mockImplementation(() => undefined)));
afterEach(() => vi.clearAllMocks());
afterAll(() => server.close());
afterAll(() => vi.restoreAllMocks());

const answerTo = (error: unknown, url = '/thing') => {
  thrown = error;
  return server.inject(url);
};

describe('ProblemFilter', () => {
  it('writes a problem as RFC 9457 has it', async () => {
    const problem = new Problem(409, 'name_taken', 'The name is taken.', {
      errors: [{ path: 'name', code: 'taken', message: 'is taken' }],
      members: { document_id: 'x', status: 200 },
      headers: { 'retry-after': '5' },
    });
    const answer = await answerTo(problem, '/thing?token=secret');
    expect(answer.statusCode).toBe(409);
    expect(answer.headers).toMatchObject({
      'content-type': 'application/problem+json; charset=utf-8',
      'cache-control': 'no-store',
      'retry-after': '5',
    });
    expect(answer.json()).toEqual({
      document_id: 'x',
      type: 'about:blank',
      title: 'Conflict',
      // Further members do not replace those of the format.
      status: 409,
      detail: 'The name is taken.',
      instance: '/thing',
      code: 'name_taken',
      request_id: expect.any(String),
      errors: [{ path: 'name', code: 'taken', message: 'is taken' }],
    });
  });

  const database = (code: string, message = 'a secret of the database') =>
    Object.assign(new Error(message), { driverError: { code } });
  const refusedBy = (policy: string) =>
    database('42501', `new row violates row-level security policy "${policy}" for table "a secret"`);
  it.each([
    ['a route that is not there', new NotFoundException('Cannot GET /secret'), 404, 'not_found'],
    ['an exception of Nest', new ForbiddenException('a secret'), 403, 'forbidden'],
    ['another one', new BadRequestException('a secret'), 400, 'bad_request'],
    ['bad JSON', new SyntaxError('Unexpected token s in a secret'), 400, 'malformed_json'],
    ['a body too large', { code: 'FST_ERR_CTP_BODY_TOO_LARGE', statusCode: 413 }, 413, 'too_large'],
    ['too many files', { code: 'FST_FILES_LIMIT', statusCode: 413 }, 413, 'too_many_files'],
    [
      'an unknown content type',
      { code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE', statusCode: 415 },
      415,
      'unsupported_media_type',
    ],
    [
      'another fault of the client',
      { code: 'FST_OTHER', statusCode: 417, message: 'a secret' },
      417,
      'error',
    ],
    ['a row made twice at once', database('23505'), 409, 'conflict'],
    ['a row whose parent has gone', database('23503'), 404, 'not_found'],
    ['a row whose grants were taken meanwhile', refusedBy('granted_access'), 404, 'not_found'],
    ['a row of another tenant', refusedBy('tenant_isolation'), 500, 'internal_error'],
    ['a deadlock', database('40P01'), 503, 'busy'],
    ['a query that took too long', database('57014'), 503, 'timeout'],
    ['a database that restarts', database('57P01'), 503, 'database_unavailable'],
    [
      'a database that is away',
      Object.assign(new Error('a secret'), { code: 'ECONNREFUSED' }),
      503,
      'database_unavailable',
    ],
    ['a database that has crashed', database('57P02'), 503, 'database_unavailable'],
    ['a connection that failed', database('08006'), 503, 'database_unavailable'],
    ['a database without room', database('53100'), 503, 'storage_full'],
    ...[
      'Connection terminated unexpectedly',
      'Connection terminated due to connection timeout',
      'Client has encountered a connection error and is not queryable',
      'timeout exceeded when trying to connect',
    ].map((said): [string, unknown, number, string] => [
      `"${said}"`,
      new Error(said),
      503,
      'database_unavailable',
    ]),
    ['a fault of ours', new TypeError('a secret is not a function'), 500, 'internal_error'],
    ['a query of ours that is wrong', database('42601'), 500, 'internal_error'],
    ['a fault that says 500 of itself', { statusCode: 500, message: 'a secret' }, 500, 'internal_error'],
    ['what is no error at all', 'a secret', 500, 'internal_error'],
    ['nothing', undefined, 500, 'internal_error'],
    ['null', null, 500, 'internal_error'],
  ])('answers %s, and tells nothing of it', async (_, error, status, code) => {
    const answer = await answerTo(error);
    expect(answer.statusCode).toBe(status);
    expect(answer.json()).toMatchObject({ status, code });
    expect(answer.body).not.toContain('secret');
    if (status === 503) expect(answer.headers['retry-after']).toBe('5');
  });

  it('logs what is our fault whole, what passes as a warning, and nothing of the rest', async () => {
    const fault = new TypeError('ours');
    await answerTo(fault);
    expect(logged.error).toHaveBeenCalledExactlyOnceWith(fault);
    await answerTo(database('40001'));
    await answerTo(refusedBy('granted_access'));
    expect(logged.warn).toHaveBeenCalledTimes(2);
    await answerTo(Problem.notFound());
    expect(logged.error).toHaveBeenCalledTimes(1);
    expect(logged.warn).toHaveBeenCalledTimes(2);
  });

  it('cuts a stream that has begun: it cannot become a problem any more', async () => {
    thrown = new Error('in the middle');
    const { port } = server.server.address() as AddressInfo;
    const answer = await fetch(`http://127.0.0.1:${port}/stream`)
      .then(response => response.text())
      .catch(() => 'cut');
    expect(answer).toBe('cut');
  });

  it('leaves an answer that is whole, and its connection', async () => {
    const { port } = server.server.address() as AddressInfo;
    const connection = new Client(`http://127.0.0.1:${port}`);
    const disconnected = vi.fn();
    connection.on('disconnect', disconnected);
    for (let count = 0; count < 3; count++) {
      const { statusCode, body } = await connection.request({ method: 'GET', path: '/twice' });
      expect(statusCode).toBe(503);
      await body.dump();
    }
    expect(disconnected).not.toHaveBeenCalled();
    await connection.close();
  });
});
