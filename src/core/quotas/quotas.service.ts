import { Injectable } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { rateLimited } from '../../foundation/rate-limits/rate-limit-headers.js';
import { AuditService } from '../audit/audit.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { quotaProblem } from '../tenancy/quota-exceeded.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { type KnownTenant, TenantDirectory } from '../tenancy/tenant-directory.js';
import {
  type LimitName,
  type LimitOverrides,
  type Limits,
  type PlanTier,
  effectiveLimits,
} from '../tenancy/tenant-limits.js';
import { secondsLeft } from './calendar-window.js';
import { QuotaAlarm } from './quota-alarm.service.js';
import { QuotasRepository, type TenantQuotas } from './quotas.repository.js';
import { UsageCounters } from './usage-counters.js';

const MIB = 1024 * 1024;
const TOKENS = 'max_llm_tokens_per_month';

/** What holds for a tenant, and what was said of it in particular. */
export interface QuotasView extends TenantQuotas {
  limits: Limits;
}

/** Of one file. */
export interface LargestUpload {
  bytes: number;
  /** With a file that is larger. */
  tooLarge: () => Problem;
}

/** What tenants may use. What can be counted in rows the database holds them to; the rest is held here. */
@Injectable()
export class QuotasService {
  constructor(
    @InjectEnv() private readonly env: Pick<Env, 'maxUploadBytes'>,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly repository: QuotasRepository,
    private readonly counters: UsageCounters,
    private readonly alarm: QuotaAlarm,
    private readonly audit: AuditService,
  ) {}

  /** Of the context's tenant, null for none. Remembered until they change; not inside of a transaction. */
  async limits(): Promise<Limits> {
    return (await this.directory.find(this.context.tenant.id))?.limits ?? effectiveLimits(null);
  }

  /** Of each plan, from the smallest to the largest. */
  async plans(): Promise<Array<{ name: PlanTier; limits: Limits }>> {
    const plans = await this.platformDatabase.run(tx => this.repository.plans(tx));
    return plans.map(({ name, limits }) => ({ name, limits: effectiveLimits(limits) }));
  }

  /** @throws Problem 404 */
  async get(): Promise<QuotasView> {
    const { id } = this.context.tenant;
    const { found, plans } = await this.platformDatabase.run(async tx => ({
      found: await this.repository.of(tx, id),
      plans: await this.repository.plans(tx),
    }));
    if (!found) throw Problem.notFound('tenant');
    const plan = plans.find(({ name }) => name === found.planTier);
    return { ...found, limits: effectiveLimits(plan?.limits, found.quotas) };
  }

  /**
   * Replaces what was set for the context's tenant. What is used beyond a new limit stays, and grows no more.
   *
   * @throws Problem 404
   */
  async replace(quotas: LimitOverrides, enforceQuotas: boolean): Promise<QuotasView> {
    const { id } = this.context.tenant;
    await this.platformDatabase.run(async tx => {
      await this.repository.lock(tx, id);
      const before = await this.repository.of(tx, id);
      if (!before) throw Problem.notFound('tenant');
      await this.repository.replace(tx, id, quotas, enforceQuotas);
      await this.directory.tenantChanged(tx, id);
      const event = {
        action: 'tenant.quotas_changed',
        resource: { type: 'tenant', id },
        details: {
          before: { quotas: before.quotas, enforce_quotas: before.enforceQuotas },
          after: { quotas, enforce_quotas: enforceQuotas },
        },
      };
      this.audit.recordForTenant(tx, id, event);
      this.audit.recordForPlatform(tx, event);
    });
    await this.counters.forget(id);
    return this.get();
  }

  /** Of a tenant whose plan has changed: what its new limits count begins with what was recorded. */
  async planChanged(tenantId: string): Promise<void> {
    await this.counters.forget(tenantId);
  }

  /**
   * Slows a tenant down, in a transaction of the platform or of this tenant.
   *
   * @param perMinute requests; null: as fast as its limits let it
   */
  async throttle(tx: Tx, tenantId: string, perMinute: number | null): Promise<void> {
    await this.repository.throttle(tx, tenantId, perMinute);
    await this.directory.tenantChanged(tx, tenantId);
  }

  /**
   * Before many members are added: an import that does not fit shall not begin. What others add meanwhile the database
   * refuses.
   *
   * @throws Problem 403 `quota_exceeded`
   */
  async requireRoomForUsers(newcomers: number): Promise<void> {
    const tenant = await this.directory.find(this.context.tenant.id);
    const max = tenant?.limits.max_users ?? null;
    if (!tenant?.enforceQuotas || max === null || newcomers === 0) return;
    const { users } = await this.tenantDatabase.run(tx => this.repository.counters(tx, tenant.id));
    if (users + newcomers <= max) return;
    const exceeded = {
      tenantId: tenant.id,
      limit: 'max_users' as const,
      used: users,
      max,
      planTier: tenant.planTier,
    };
    this.alarm.raise(exceeded, true);
    throw quotaProblem(exceeded);
  }

  /** Bytes of one file of the context's tenant, and whose limit that is. Not inside of a transaction. */
  async largestUpload(): Promise<LargestUpload> {
    const { maxUploadBytes } = this.env;
    const tenant = await this.directory.find(this.context.tenant.id);
    const max = tenant?.limits.max_upload_mb ?? null;
    if (tenant && max !== null && tenant.enforceQuotas && max * MIB < maxUploadBytes) {
      return { bytes: max * MIB, tooLarge: () => this.tooLargeForTenant(tenant, max) };
    }
    return {
      bytes: maxUploadBytes,
      tooLarge: () => new Problem(413, 'too_large', 'The file is larger than this installation accepts.'),
    };
  }

  /** Before a chat model is called. Not inside of a transaction. @throws Problem 429 `rate_limited` */
  async requireLlmTokens(): Promise<void> {
    const tenant = await this.directory.find(this.context.tenant.id);
    const max = tenant?.limits[TOKENS] ?? null;
    if (!tenant || max === null) return;
    const now = new Date();
    const { consumed } = await this.counters.count(tenant.id, TOKENS, 0, now);
    if (consumed < max) return;
    const { id: tenantId, planTier, enforceQuotas } = tenant;
    this.alarm.raise({ tenantId, limit: TOKENS, used: consumed, max, planTier }, enforceQuotas);
    if (!enforceQuotas) return;
    const wait = secondsLeft(this.counters.window(TOKENS, now), now);
    throw rateLimited(wait, { limit: TOKENS, used: consumed, max, plan_tier: planTier });
  }

  /** After it was: an answer that has begun is not cut off. @param tokens read and written */
  async countLlmTokens(tokens: number): Promise<void> {
    const tenant = await this.directory.find(this.context.tenant.id);
    if (!tenant || tenant.limits[TOKENS] === null || tokens <= 0) return;
    await this.counters.add(tenant.id, TOKENS, tokens, new Date());
  }

  /**
   * Of work of the context's tenant in a knowledge base that went on without what there was no room for. Not inside of a
   * transaction.
   */
  async tellReached(
    reached: ReadonlyArray<{ limit: LimitName; used: number; max: number }>,
    kbId: string,
  ): Promise<void> {
    const tenant = reached.length > 0 ? await this.directory.find(this.context.tenant.id) : null;
    if (!tenant) return;
    for (const exceeded of reached) {
      this.alarm.raise(
        { ...exceeded, kbId, tenantId: tenant.id, planTier: tenant.planTier },
        tenant.enforceQuotas,
      );
    }
  }

  private tooLargeForTenant({ id, planTier }: KnownTenant, max: number): Problem {
    const limit = 'max_upload_mb';
    this.alarm.raise({ tenantId: id, limit, used: max, max, planTier }, true);
    return new Problem(413, 'too_large', `The file is larger than this tenant’s limit of ${max} MiB.`, {
      members: { limit, max, plan_tier: planTier },
    });
  }
}
