import { Injectable } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { TenantAdmission } from '../../core/authorization/tenant-admission.service.js';
import { CallLimits } from '../../core/quotas/call-limits.service.js';
import { type Principal, type TenantAccess, TenantContext } from '../../core/tenancy/tenant-context.js';
import { type KnownTenant, TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { Problem } from '../../foundation/http/problem.js';
import { ApiTokenCredentials } from '../api-tokens/api-token-credentials.service.js';
import { UsersService } from '../users/users.service.js';
import type { Evaluation } from './evaluation.js';

const SEES_ALL: TenantAccess = { all: true, groups: [], member: false };

/** Whoever has started an evaluation asks its questions: with the rights, limits and credits that they have by then. */
@Injectable()
export class EvaluationStarter {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly admission: TenantAdmission,
    private readonly authorization: AuthorizationService,
    private readonly limits: CallLimits,
    private readonly usage: UsageService,
    private readonly users: UsersService,
    private readonly tokens: ApiTokenCredentials,
  ) {}

  /**
   * Asks one question as them, if they still may; it counts as a question of the tenant, and is an event of its usage.
   *
   * @throws Problem 403 `starter_gone` and others, 404, 429 · whatever the work throws
   */
  async ask<T>(evaluation: Evaluation, work: () => Promise<T>): Promise<T> {
    const { kbId } = evaluation;
    const tenant = await this.directory.find(this.context.tenant.id);
    if (!tenant) throw Problem.notFound('tenant');
    const principal = await this.find(evaluation);
    const access = await this.accessOf(principal, tenant, kbId);
    const { refusal, leave } =
      principal.kind === 'user' && !access.member
        ? { refusal: null, leave: null }
        : await this.limits.admit(tenant, { isQuery: true });
    if (refusal) throw refusal;
    try {
      return await this.context.runAs(principal, tenant, access, () => this.metered(kbId, work));
    } finally {
      leave?.();
    }
  }

  private async find({ startedAs, userId, tokenId }: Evaluation): Promise<Principal> {
    if (startedAs === 'system') return { kind: 'system' };
    const principal = startedAs === 'user' ? await this.user(userId) : await this.token(tokenId);
    if (!principal)
      throw Problem.forbidden('Whoever has started this may not sign in any more.', 'starter_gone');
    return principal;
  }

  private async metered<T>(kbId: string, work: () => Promise<T>): Promise<T> {
    const meter = this.usage.meter({ operation: 'evaluation', kbId });
    try {
      const result = await work();
      meter.end('success');
      return result;
    } catch (error) {
      meter.end('failure');
      throw error;
    }
  }

  private async accessOf(principal: Principal, tenant: KnownTenant, kbId: string): Promise<TenantAccess> {
    if (principal.kind === 'system') {
      if (tenant.status !== 'active') throw new Problem(403, 'tenant_suspended', 'This tenant is suspended.');
      return SEES_ALL;
    }
    const subject = principal.kind === 'user' ? principal.userId : principal;
    const access = await this.admission.admit(subject, tenant);
    for (const permission of ['kb:update', 'query:run'] as const) {
      if (!(await this.authorization.canInKb(subject, tenant.id, kbId, permission)))
        throw Problem.forbidden(
          `Whoever has started this does not have the permission ${permission} any more.`,
        );
    }
    return access;
  }

  private async user(id: string | null): Promise<Principal | null> {
    const user = id === null ? null : await this.users.get(id).catch(whereMissing);
    if (!user?.isActive) return null;
    // There is no session, and nothing here that would ask for one.
    return { kind: 'user', userId: user.id, email: user.email, sessionId: '', tokenTenantId: null };
  }

  /** A token that is kept to some agents asks nothing past them. */
  private async token(id: string | null): Promise<Principal | null> {
    const token = id === null ? null : await this.tokens.principalOfId(id);
    return token?.agentIds ? null : token;
  }
}

function whereMissing(error: unknown): null {
  if (error instanceof Problem && error.status === 404) return null;
  throw error;
}
