import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import type { GuardedRoute } from '../../src/core/authorization/route-access.js';
import type { Answer, Client } from './client.js';
import { EXAMPLE_BODIES } from './example-bodies.js';

/** What the parameters of paths stand for, by their names. */
export type Ids = Record<string, string>;

/** `METHOD /path`, as the router writes it. */
export const keyOf = ({ method, path }: Pick<GuardedRoute, 'method' | 'path'>): string => `${method} ${path}`;

export const parametersOf = ({ path }: GuardedRoute): string[] =>
  [...path.matchAll(/:(\w+)/g)].map(match => match[1] as string);

/** An id, or a name where names stand, of the form of this kind. */
export const nameOfNothing = (kind: string): string =>
  / (name|slug)$|^(role|variable)$/.test(kind) ? `no-such-${randomUUID().slice(0, 8)}` : randomUUID();

/** Asks a route for these ids, with its example's body, and `fields` in it. */
export function callRoute(
  client: Client,
  route: GuardedRoute,
  ids: Ids,
  { query = '', fields = {} }: { query?: string; fields?: Record<string, unknown> } = {},
): Promise<Answer> {
  const example = EXAMPLE_BODIES[keyOf(route)]?.();
  const path = route.path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(ids[name] ?? 'missing'));
  return client.send(
    route.method,
    path + query,
    example instanceof FormData ? example : example && { ...example, ...fields },
  );
}

/** Headers of which each answer has its own. */
const OWN_HEADERS = ['date', 'x-request-id', 'content-length'];

/** Status, body, but for the two members that every problem has to itself, and which headers there are. */
export function expectSame(actual: Answer, expected: Answer, what: string): void {
  const told = ({ status, headers, body }: Answer) => ({
    status,
    headers: [...headers.keys()].filter(name => !OWN_HEADERS.includes(name)).toSorted(),
    body: { ...body, instance: null, request_id: null },
  });
  expect(told(actual), what).toEqual(told(expected));
}
