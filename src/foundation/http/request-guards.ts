import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from './problem.js';

/** Levels of arrays and objects in one JSON body. */
const DEEPEST_JSON = 32;

/** Bytes of a body that somebody may send who has shown no credential yet: passwords and tokens are short. */
const LARGEST_PUBLIC_BODY = 64 * 1024;

/**
 * Lets routes below some paths take small bodies only: a body is read before anybody is asked who sends it.
 *
 * @param paths such as `/api/v1/auth`
 */
export function limitBodies(fastify: FastifyInstance, paths: readonly string[]): void {
  fastify.addHook('onRoute', route => {
    if (paths.some(path => route.url.startsWith(`${path}/`))) route.bodyLimit = LARGEST_PUBLIC_BODY;
  });
}

/**
 * Refuses, before anything reads them, strings that PostgreSQL cannot store (NUL, lone surrogates) and JSON so deep
 * that walking it recursively would exhaust the stack.
 */
export function guardRequests(fastify: FastifyInstance): void {
  fastify.addHook('preValidation', (request: FastifyRequest, _reply, done) => {
    const problem = inspect(request.params) ?? inspect(request.query) ?? inspect(request.body);
    done(problem as Error | undefined);
  });
}

/** What `guardRequests` refuses, in one value. Iterative on purpose: what it protects from is recursion. */
export function inspect(root: unknown): Problem | undefined {
  if (typeof root !== 'object' || root === null || Buffer.isBuffer(root)) return undefined;
  const stack: Array<{ value: object; depth: number }> = [{ value: root, depth: 1 }];
  for (let next = stack.pop(); next; next = stack.pop()) {
    const { value, depth } = next;
    if (depth > DEEPEST_JSON) {
      return Problem.malformed('too_deep', `The JSON is nested deeper than ${DEEPEST_JSON} levels.`);
    }
    for (const [key, item] of Object.entries(value)) {
      if (!isStorable(key) || (typeof item === 'string' && !isStorable(item))) {
        return Problem.malformed(
          'malformed_text',
          'A string has a NUL character or a lone surrogate in it, which no text can hold.',
        );
      }
      if (typeof item === 'object' && item !== null) stack.push({ value: item, depth: depth + 1 });
    }
  }
  return undefined;
}

const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes('\0');
