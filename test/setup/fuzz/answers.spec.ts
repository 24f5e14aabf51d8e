import { describe, expect, it } from 'vitest';
import { AnswerCheck, type RawAnswer } from './answers.js';
import { type ApiDocument, type Operation, operationsOf } from './api-document.js';
import { fuzzedRequests } from './requests.js';

const problemContent = { 'application/problem+json': { schema: { type: 'object' } } };
const api: ApiDocument = {
  paths: {
    '/api/v1/things/{thing}': {
      patch: {
        parameters: [{ name: 'thing', in: 'path', required: true }],
        requestBody: { content: { 'application/json': { schema: { $ref: '#/components/schemas/Thing' } } } },
        responses: {
          200: { content: { 'application/json': { schema: { $ref: '#/components/schemas/Thing' } } } },
          204: {},
          404: { content: problemContent },
          429: { content: problemContent },
          502: { content: problemContent },
          503: { $ref: '#/components/responses/Unavailable' },
        },
        'x-permission': { permission: 'thing:change', domain: 'tenant_<id>' },
      },
    },
  },
  components: {
    schemas: {
      Thing: {
        type: 'object',
        required: ['id'],
        properties: {
          id: { type: 'string', format: 'uuid' },
          parent: { nullable: true, allOf: [{ $ref: '#/components/schemas/Thing' }] },
          count: { type: 'integer', minimum: 0, exclusiveMinimum: true },
        },
        additionalProperties: false,
      },
    },
    responses: { Unavailable: { content: problemContent } },
  },
};
const operation = operationsOf(api)[0] as Operation;
const check = new AnswerCheck(api, new Map([['/srv/secret-folder', 'the data folder']]));
const ID = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';

const answer = (status: number, body: unknown, headers: RawAnswer['headers'] = {}): RawAnswer => ({
  status,
  headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
  text: typeof body === 'string' ? body : JSON.stringify(body),
});
const problem = (status: number, detail = 'A sentence.', headers: RawAnswer['headers'] = {}): RawAnswer =>
  answer(
    status,
    {
      type: 'about:blank',
      title: 'Title',
      status,
      detail,
      instance: '/',
      code: 'code',
      request_id: ID,
    },
    { 'content-type': 'application/problem+json', ...headers },
  );

describe('AnswerCheck', () => {
  it.each([
    ['what the document says', answer(200, { id: ID, parent: null, count: 1 })],
    ['what refers to itself', answer(200, { id: ID, parent: { id: ID } })],
    ['nothing where nothing is said', { status: 204, headers: {}, text: '' }],
    ['a problem', problem(404)],
    ['a refusal that says when to come back', problem(429, 'Later.', { 'retry-after': '1' })],
    ['a 502 that the route itself names', problem(502)],
  ])('takes %s', (_, given) => {
    expect(check.faultsOf(operation, given, '')).toEqual([]);
  });

  it.each([
    ['a server error', problem(500), 'no server error'],
    ['a 503 that only every route may give', problem(503, '.', { 'retry-after': '1' }), 'no server error'],
    ['a status that nobody documented', problem(418), 'documented statuses only'],
    ['a missing field', answer(200, { count: 1 }), 'documented schema'],
    ['a field of a wrong type', answer(200, { id: 7 }), 'documented schema'],
    ['a field that nobody documented', answer(200, { id: ID, password_hash: 'x' }), 'documented schema'],
    ['one deep inside', answer(200, { id: ID, parent: { id: ID, more: 1 } }), 'documented schema'],
    ['a number at a bound that excludes it', answer(200, { id: ID, count: 0 }), 'documented schema'],
    ['what is no JSON', answer(200, '{"id"'), 'JSON'],
    ['another type', answer(200, '<p>', { 'content-type': 'text/html' }), 'documented types only'],
    ['a body where there is none', { status: 204, headers: {}, text: 'x' }, 'no body'],
    ['a problem that is none', answer(404, { status: 404 }), 'problem documents'],
    ['a problem of another status', { ...problem(404), status: 429 }, 'problem documents'],
    ['a refusal without a time', problem(429), 'Retry-After'],
    ['a stack', problem(404, 'x\n    at Thing.change (/srv/thing.js:1:2)'), 'nothing from inside'],
    ['SQL', problem(404, 'SELECT name FROM things WHERE id = 1'), 'nothing from inside'],
    ['a message of the database', problem(404, 'relation "things" does not exist'), 'nothing from inside'],
    ['a secret', problem(404, 'in /srv/secret-folder'), 'nothing of others'],
  ])('finds %s', (_, given, property) => {
    expect(check.faultsOf(operation, given, '').map(fault => fault.property)).toContain(property);
  });

  it('lets come back what was sent', () => {
    const echo = problem(404, 'The name relation "things" does not exist is taken.');
    expect(check.faultsOf(operation, echo, 'relation "things" does not exist')).toEqual([]);
  });
});

describe('fuzzedRequests', () => {
  it('are the same for the same seed, and others for another', () => {
    const made = (seed: number) => JSON.stringify(fuzzedRequests(api, [operation], { count: 50, seed }));
    expect(made(1)).toBe(made(1));
    expect(made(1)).not.toBe(made(2));
  });
});
