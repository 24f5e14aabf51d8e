import { Inject, Injectable } from '@nestjs/common';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import { APPLICATION_DATA_SOURCE } from '../../foundation/database/tokens.js';
import { TENANT_ROLE } from '../../foundation/database/roles.js';
import { type Tx, runTransaction } from '../../foundation/database/transaction.js';
import { QuotaSignals } from './quota-exceeded.js';
import { TenantContext } from './tenant-context.js';

/**
 * The one door to a tenant's data. What runs inside sees and changes the rows of the context's tenant alone: not
 * because its queries say so, but because PostgreSQL refuses the others.
 */
@Injectable()
export class TenantDatabase {
  constructor(
    @Inject(APPLICATION_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly context: TenantContext,
    private readonly quotas: QuotaSignals = new QuotaSignals(),
  ) {}

  /**
   * Runs `work` in a transaction of the context's tenant. Keep it short: no model call, upload or HTTP call inside.
   *
   * @throws ContextMissingError where no tenant is set; Problem 403 `quota_exceeded`
   */
  run<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return runTransaction(this.dataSource, this.enter(), work).catch((error: unknown) => {
      throw this.quotas.translate(error);
    });
  }

  /** The simple protocol, which takes several statements at once, has no parameters: every value is quoted here. */
  private enter(): string {
    const principal = this.context.principal;
    const userId = principal.kind === 'system' ? '' : principal.userId;
    const { all, groups, kbIds, agentIds } = this.context.access;
    return (
      `SET LOCAL ROLE ${TENANT_ROLE}; ` +
      `SET LOCAL app.tenant_id = ${pg.escapeLiteral(this.context.tenant.id)}; ` +
      `SET LOCAL app.user_id = ${pg.escapeLiteral(userId)}; ` +
      `SET LOCAL app.groups = ${pg.escapeLiteral(`{${groups.join(',')}}`)}; ` +
      `SET LOCAL app.access = '${all ? 'all' : 'granted'}'` +
      (principal.kind === 'api_token'
        ? `; SET LOCAL app.token_id = ${pg.escapeLiteral(principal.tokenId)}`
        : '') +
      (kbIds ? `; SET LOCAL app.kb_ids = ${pg.escapeLiteral(`{${kbIds.join(',')}}`)}` : '') +
      (agentIds ? `; SET LOCAL app.agent_ids = ${pg.escapeLiteral(`{${agentIds.join(',')}}`)}` : '')
    );
  }
}
