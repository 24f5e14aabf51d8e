import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AuthorizationService, POLICY_TOPIC } from '../../core/authorization/authorization.service.js';
import {
  PLATFORM_DOMAIN,
  type Permission,
  domainKind,
  tenantDomain,
} from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TENANT_TOPIC, TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import { sendProblem } from '../../foundation/http/problem.filter.js';
import { Problem } from '../../foundation/http/problem.js';
import { SESSION_TOPIC, SessionsService } from './sessions.service.js';

/** A request that was let in and has not been answered to its end. */
interface LiveRequest {
  request: FastifyRequest;
  reply: FastifyReply;
  userId: string;
  sessionId: string;
  /** Null on routes that belong to no tenant. */
  tenantId: string | null;
  /** What the route requires; asked for again in its domain. */
  permission: Permission;
}

/**
 * The guards ask once, at the beginning. A stream may run for minutes after: when a session ends, a tenant is suspended
 * or a role is taken, in whichever process, the requests that it concerns are asked about again, and those that would
 * not be let in any more are ended.
 */
@Injectable()
export class LiveRequests implements OnModuleInit {
  private readonly logger = new Logger(LiveRequests.name);
  private readonly live = new Set<LiveRequest>();

  constructor(
    private readonly context: TenantContext,
    private readonly changes: ChangeFeed,
    private readonly sessions: SessionsService,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
  ) {}

  onModuleInit(): void {
    const askAll = () => this.askAgain(() => true);
    this.changes.subscribe(SESSION_TOPIC, id => this.askAgain(({ sessionId }) => sessionId === id), askAll);
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
    live.reply.raw.once('close', () => this.live.delete(live));
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
  private async refusalOf({ userId, sessionId, tenantId, permission, request }: LiveRequest) {
    if (!(await this.sessions.validState(sessionId, userId))) {
      return Problem.unauthorized('invalid_token', 'The session of this request has ended.');
    }
    if (!tenantId || domainKind(permission) !== 'tenant') return null;
    const tenant = await this.directory.find(tenantId);
    if (!tenant) return Problem.notFound('tenant');
    const platform = await this.authorization.can(userId, PLATFORM_DOMAIN, 'platform:read');
    const { member } = await this.authorization.accessOf(userId, tenantId);
    if (!member && !platform) return Problem.notFound('tenant');
    if (tenant.status === 'suspended' && !platform) {
      return Problem.forbidden('This tenant is suspended.', 'tenant_suspended');
    }
    const { kb } = request.params as { kb?: string };
    const allowed = kb
      ? await this.authorization.canInKb(userId, tenantId, kb, permission)
      : await this.authorization.can(userId, tenantDomain(tenantId), permission);
    return allowed ? null : Problem.forbidden(`This needs the permission ${permission}.`);
  }

  private end({ request, reply }: LiveRequest, refusal: Problem): void {
    // Of an answer that has begun nothing but its end can tell.
    if (reply.raw.headersSent) reply.raw.destroy();
    else sendProblem(refusal, request, reply);
    request.abort.abort(refusal);
  }
}
