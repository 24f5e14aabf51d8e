import type { FastifyRequest } from 'fastify';
import type { Access } from './require-permission.js';

/** In which knowledge base a route's permission is asked for. */
export interface AskedFor {
  /** Id or slug; undefined: the request names none. */
  kb: string | undefined;
  /** Whether it is enough then to have the permission in any. */
  anyKb: boolean;
}

/** The knowledge base that a request is about. */
export function kbOfRequest(
  request: FastifyRequest,
  { kbBesidePath }: Extract<Access, { kind: 'permission' }>,
): AskedFor {
  const { kb } = request.params as { kb?: string };
  if (!kbBesidePath) return { kb, anyKb: false };
  const [named] = kbsNamedBeside(request);
  return { kb: named, anyKb: named === undefined };
}

/** Ids or slugs that a request names outside of its path: in the header X-KB-ID, and in the query. */
export function kbsNamedBeside({ headers, query }: FastifyRequest): string[] {
  const { kb } = (query ?? {}) as { kb?: unknown };
  return [headers['x-kb-id'], kb]
    .flat()
    .filter((reference): reference is string => typeof reference === 'string' && reference !== '');
}
