import { Injectable } from '@nestjs/common';
import { Problem } from '../../foundation/http/problem.js';
import type { LimitName, PlanTier } from './tenant-limits.js';

/** A limit that somebody has run into. */
export interface QuotaExceeded {
  tenantId: string;
  limit: LimitName;
  /** Of a limit for each knowledge base: which one. */
  kbId?: string;
  /** Before what was refused; of sizes MiB. */
  used: number;
  max: number;
  planTier: PlanTier;
}

/** Of the error that the counters of the database raise. */
const QUOTA_EXCEEDED = 'EQ001';

/** Hears of every limit of the database that a transaction ran into. */
@Injectable()
export class QuotaSignals {
  private readonly listeners: Array<(exceeded: QuotaExceeded) => void> = [];

  listen(listener: (exceeded: QuotaExceeded) => void): void {
    this.listeners.push(listener);
  }

  /** What a failed transaction is answered with: the problem, where a limit stopped it; else what it failed with. */
  translate(error: unknown): unknown {
    const exceeded = quotaExceededOf(error);
    if (!exceeded) return error;
    for (const listener of this.listeners) listener(exceeded);
    return quotaProblem(exceeded);
  }
}

/** Not written into the audit: somebody who may do this has done it once too often, which is told as an event. */
export const quotaProblem = ({ limit, used, max, planTier }: QuotaExceeded): Problem =>
  new Problem(403, 'quota_exceeded', `The limit ${limit} of this tenant is reached: ${used} of ${max}.`, {
    members: { limit, used, max, plan_tier: planTier },
    denied: false,
  });

interface DatabaseFault {
  code?: string;
  detail?: string;
}

function quotaExceededOf(error: unknown): QuotaExceeded | null {
  const fault = ((error as { driverError?: DatabaseFault } | null)?.driverError ??
    error) as DatabaseFault | null;
  if (fault?.code !== QUOTA_EXCEEDED) return null;
  const { tenant_id, limit, used, max, plan_tier } = JSON.parse(fault.detail ?? '{}');
  return { tenantId: tenant_id, limit, used, max, planTier: plan_tier };
}
