import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AuthorizationService, POLICY_TOPIC } from '../../core/authorization/authorization.service.js';
import type { AskedFor } from '../../core/authorization/kb-of-request.js';
import {
  PLATFORM_DOMAIN,
  type Permission,
  domainKind,
  tenantDomain,
} from '../../core/authorization/permissions.js';
import { type Principal, type Subject, TenantContext } from '../../core/tenancy/tenant-context.js';
import { TENANT_TOPIC, TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { ApiTokenCredentials } from '../../features/api-tokens/api-token-credentials.service.js';
import { API_TOKEN_TOPIC } from '../../features/api-tokens/api-tokens.service.js';
import { USER_TOPIC } from '../../features/users/user-sessions.service.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import { sendProblem } from '../../foundation/http/problem.filter.js';
import { Problem } from '../../foundation/http/problem.js';
import { onEnd } from '../../foundation/http/request-lifecycle.js';
import { apiTokenOf } from './api-token-header.js';
import { SESSION_TOPIC, SessionsService } from './sessions.service.js';

/** A request that was let in and has not been answered to its end. */
interface LiveRequest {
  request: FastifyRequest;
  reply: FastifyReply;
  principal: Exclude<Principal, { kind: 'system' }>;
  /** Null on routes that belong to no tenant. */
  tenantId: string | null;
  /** What the route requires; asked for again in its domain, and in the knowledge base that the request is about. */
  permission: Permission;
  /** Another one that lets in, too. */
  or: Permission | null;
  askedFor: AskedFor;
}

/**
 * The guards ask once, at the beginning. A stream may run for minutes after: when a session ends, an API token is revoked
 * or changed, a tenant is suspended or a role is taken, in whichever process, the requests that it concerns are asked about
 * again, and those that would not be let in any more are ended.
 */
@Injectable()
export class LiveRequests implements OnModuleInit {
  private readonly logger = new Logger(LiveRequests.name);
  private readonly live = new Set<LiveRequest>();

  constructor(
    private readonly context: TenantContext,
    private readonly changes: ChangeFeed,
    private readonly sessions: SessionsService,
    private readonly apiTokens: ApiTokenCredentials,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
  ) {}

  onModuleInit(): void {
    const askAll = () => this.askAgain(() => true);
    this.changes.subscribe(
      SESSION_TOPIC,
      id => this.askAgain(({ principal }) => principal.kind === 'user' && principal.sessionId === id),
      askAll,
    );
    this.changes.subscribe(
      API_TOKEN_TOPIC,
      id => this.askAgain(({ principal }) => principal.kind === 'api_token' && principal.tokenId === id),
      askAll,
    );
    // A user's own requests have a session, of which more is told.
    this.changes.subscribe(
      USER_TOPIC,
      id => this.askAgain(({ principal }) => principal.kind === 'api_token' && principal.userId === id),
      askAll,
    );
    this.changes.subscribe(TENANT_TOPIC, id => this.askAgain(({ tenantId }) => tenantId === id), askAll);
    this.changes.subscribe(
      POLICY_TOPIC,
      domain =>
        this.askAgain(
          ({ tenantId }) =>
            domain === PLATFORM_DOMAIN || (tenantId !== null && domain === tenantDomain(tenantId)),
        ),
      askAll,
    );
  }

  /** Watches over a request from here to the end of its answer. */
  watch(live: LiveRequest): void {
    this.live.add(live);
    onEnd(live.request, live.reply, () => this.live.delete(live));
  }

  private askAgain(concerned: (live: LiveRequest) => boolean): void {
    // Who logs out or leaves a tenant still gets the answer to just that.
    const { requestId } = this.context.actor;
    for (const live of [...this.live].filter(concerned)) {
      if (live.request.id === requestId) {
        this.live.delete(live);
        continue;
      }
      this.refusalOf(live).then(
        refusal => refusal && this.end(live, refusal),
        // Whoever cannot be asked about is not let go on.
        (error: unknown) => {
          this.logger.warn(error);
          this.end(live, Problem.unavailable('unavailable', 'Whether this may go on cannot be said now.'));
        },
      );
    }
  }

  /** What a new request of the same kind would be told; null where it would be let in. */
  private async refusalOf({ principal, tenantId, permission, or, askedFor, request }: LiveRequest) {
    // Whoever else listens to the change has forgotten by then what it has made untrue.
    await Promise.resolve();
    const subject = await this.subjectOf(principal, request);
    if (subject instanceof Problem) return subject;
    const tenantRoute = domainKind(permission) === 'tenant';
    // A token acts in its tenant on every route.
    if (!tenantId || (!tenantRoute && typeof subject === 'string')) return null;
    const tenant = await this.directory.find(tenantId);
    if (!tenant) return Problem.notFound('tenant');
    const platform = await this.authorization.can(subject, PLATFORM_DOMAIN, 'platform:read');
    const { member } = await this.authorization.accessOf(subject, tenantId);
    if (!member && !platform) return Problem.notFound('tenant');
    if (tenant.status === 'suspended' && !platform) {
      return Problem.forbidden('This tenant is suspended.', 'tenant_suspended');
    }
    if (!tenantRoute) return null;
    const { kb, anyKb } = askedFor;
    const allowed = await this.authorization.letsIn(subject, tenantId, permission, kb, anyKb, or);
    return allowed ? null : Problem.forbidden(`This needs the permission ${permission}.`);
  }

  /** Whose rights count now; the refusal where the credential is not good any more. */
  private async subjectOf(
    principal: LiveRequest['principal'],
    { headers }: FastifyRequest,
  ): Promise<Subject | Problem> {
    if (principal.kind === 'user') {
      const { userId, sessionId } = principal;
      if (await this.sessions.validState(sessionId, userId)) return userId;
      return Problem.unauthorized('invalid_token', 'The session of this request has ended.');
    }
    const now = await this.apiTokens.principalOf(apiTokenOf(headers) ?? '');
    if (now?.tokenId !== principal.tokenId) {
      return Problem.unauthorized('invalid_token', 'The API token of this request is not valid any more.');
    }
    // The database has let it into what it was for when it began.
    const keptToLess = lacks(now.kbIds, principal.kbIds) || lacks(now.agentIds, principal.agentIds);
    return keptToLess
      ? Problem.forbidden('The API token of this request was changed meanwhile.', 'token_changed')
      : now;
  }

  private end(live: LiveRequest, refusal: Problem): void {
    // It has ended meanwhile, or was ended for another change.
    if (!this.live.delete(live)) return;
    const { request, reply } = live;
    sendProblem(refusal, request, reply);
    request.abort.abort(refusal);
  }
}

/** Null stands for all. */
const lacks = (now: readonly string[] | null, before: readonly string[] | null): boolean =>
  now !== null && (before === null || before.some(id => !now.includes(id)));
