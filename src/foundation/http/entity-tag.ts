import {
  applyDecorators,
  type CallHandler,
  createParamDecorator,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
} from '@nestjs/common';
import { ApiHeader } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { map, type Observable } from 'rxjs';
import { ApiProblems } from './api-problems.js';
import { Problem } from './problem.js';

/** The version of a thing that was last changed at `updatedAt` (RFC 9110, 8.8.3). */
const entityTag = (updatedAt: Date | string): string => `"${new Date(updatedAt).getTime().toString(36)}"`;

/** What a change was made from: the header `If-Match`; null where the client does not care. */
export type IfMatch = string | null;

/** Hands the header `If-Match` to a handler. */
export const IfMatchHeader = createParamDecorator((_: unknown, context: ExecutionContext): IfMatch => {
  const header = context.switchToHttp().getRequest<FastifyRequest>().headers['if-match'];
  return header === undefined || header.trim() === '*' ? null : header;
});

/** Documents the header `If-Match`, and what is answered where it does not match. */
export const ApiIfMatch = (): MethodDecorator =>
  applyDecorators(
    ApiHeader({
      name: 'If-Match',
      required: false,
      description:
        'The `ETag` of the version that is changed: where somebody else has changed it since, 412.',
    }),
    ApiProblems(412),
  );

/**
 * Refuses to change what is no longer what the client has seen. To be asked of a row that the transaction has locked.
 *
 * @throws Problem 412 `changed_meanwhile`
 */
export function requireMatch(ifMatch: IfMatch, updatedAt: Date | null): void {
  if (ifMatch === null) return;
  const tags = ifMatch.split(',').map(tag => tag.trim());
  if (updatedAt && tags.includes(entityTag(updatedAt))) return;
  throw new Problem(
    412,
    'changed_meanwhile',
    'Somebody else has changed this since it was read. Read it again, and change that.',
  );
}

/** Gives every answer that is one thing with a time of its last change an `ETag`. */
@Injectable()
export class EntityTagInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      map((body: unknown) => {
        const updatedAt = (body as { updated_at?: unknown } | null | undefined)?.updated_at;
        if (typeof updatedAt === 'string') {
          void context.switchToHttp().getResponse<FastifyReply>().header('etag', entityTag(updatedAt));
        }
        return body;
      }),
    );
  }
}
