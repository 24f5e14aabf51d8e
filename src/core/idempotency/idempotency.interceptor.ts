import {
  type CallHandler,
  type ExecutionContext,
  Inject,
  Injectable,
  type NestInterceptor,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { hkdfSync } from 'node:crypto';
import { type Observable, catchError, mergeMap, of } from 'rxjs';
import { SECRETS } from '../../foundation/crypto/crypto.module.js';
import type { Secrets } from '../../foundation/crypto/secrets.js';
import { Problem } from '../../foundation/http/problem.js';
import { domainKind } from '../authorization/permissions.js';
import { ACCESS, type Access } from '../authorization/require-permission.js';
import { type Principal, TenantContext } from '../tenancy/tenant-context.js';
import { fingerprintOf, keyId, readIdempotencyKey } from './idempotency-key.js';
import { type Attempt, IdempotencyService, type StoredAnswer } from './idempotency.service.js';

/** Of an answer, what is given again with it. */
const KEPT_HEADERS = ['content-type', 'cache-control', 'location', 'etag'];

/**
 * Makes a POST with the header `Idempotency-Key` happen once, for whoever has signed in. Only what succeeded is kept: after
 * an error nothing was done, and the same request may be tried again. A request without the header passes untouched.
 */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  private readonly fingerprintSecret: Buffer;

  constructor(
    @Inject(SECRETS) { jwtSecret }: Secrets,
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly idempotency: IdempotencyService,
  ) {
    this.fingerprintSecret = Buffer.from(hkdfSync('sha256', jwtSecret, '', 'enclave idempotency keys', 32));
  }

  intercept(
    execution: ExecutionContext,
    next: CallHandler,
  ): Observable<unknown> | Promise<Observable<unknown>> {
    const request = execution.switchToHttp().getRequest<FastifyRequest>();
    const header = request.headers['idempotency-key'];
    if (header === undefined || request.method !== 'POST') return next.handle();
    const principal = this.context.principalOrNull;
    if (!principal || principal.kind === 'system') return next.handle();
    return this.once(readIdempotencyKey(header), principal, execution, next);
  }

  private async once(
    key: string,
    principal: Exclude<Principal, { kind: 'system' }>,
    execution: ExecutionContext,
    next: CallHandler,
  ): Promise<Observable<unknown>> {
    const http = execution.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const reply = http.getResponse<FastifyReply>();
    const tenantId = this.tenantOf(execution, request);
    const principalId = principal.kind === 'api_token' ? principal.tokenId : principal.userId;
    const begun = await this.idempotency.begin({
      id: keyId(principalId, tenantId, key),
      tenantId,
      fingerprint: fingerprintOf(request, this.fingerprintSecret),
      access: tenantId ? this.context.access : null,
    });
    if ('replay' in begun) return of(replay(reply, begun.replay));
    const { attempt } = begun;
    const declaredStatus = reply.statusCode;
    return next.handle().pipe(
      mergeMap(body => keep(attempt, answerOf(request, reply, declaredStatus, body), body)),
      catchError(error => giveBack(attempt, error)),
    );
  }

  /** Of routes that belong to no tenant the key does not depend on which one was chosen meanwhile. */
  private tenantOf(execution: ExecutionContext, { params }: FastifyRequest): string | null {
    const access = this.reflector.get<Access | undefined>(ACCESS, execution.getHandler());
    const ofTenant = access?.kind === 'permission' && domainKind(access.permission) === 'tenant';
    const { tenant: named } = params as { tenant?: string };
    return ofTenant || named ? (this.context.tenantOrNull?.id ?? null) : null;
  }
}

function replay(reply: FastifyReply, answer: StoredAnswer): unknown {
  void reply.code(answer.status).headers({ ...answer.headers, 'idempotency-replayed': 'true' });
  return answer.body;
}

async function keep(attempt: Attempt, answer: StoredAnswer | null, body: unknown): Promise<unknown> {
  await attempt.complete(answer);
  return body;
}

async function giveBack(attempt: Attempt, error: unknown): Promise<never> {
  await attempt.release();
  throw error;
}

/** @returns null for a stream */
function answerOf(
  request: FastifyRequest,
  reply: FastifyReply,
  declaredStatus: number,
  body: unknown,
): StoredAnswer | null {
  // Its time was up and it was answered 503, but it was done after all: what it would have been answered counts.
  const { reason } = request.abort.signal;
  const late = reply.sent && reason instanceof Problem && reason.code === 'timeout';
  if (reply.sent && !late) return null;
  if (typeof body === 'object' && body !== null && !isPlain(body)) return null;
  const headers = late ? ['location', 'etag'] : KEPT_HEADERS;
  return {
    status: late ? declaredStatus : reply.statusCode,
    headers: Object.fromEntries(
      headers.flatMap(name => {
        const value = reply.getHeader(name);
        return value === undefined ? [] : [[name, String(value)]];
      }),
    ),
    body,
  };
}

/** What JSON is made of; streams, buffers and files are not. */
function isPlain(body: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(body);
  return Array.isArray(body) || prototype === Object.prototype || prototype === null;
}
