import { Injectable, Logger } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { EventsService } from '../events/events.service.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import type { AccountState } from './credits.repository.js';

/** Tells once when credits become few, and when there are too few left. */
@Injectable()
export class CreditWatch {
  private readonly logger = new Logger(CreditWatch.name);

  constructor(
    private readonly context: TenantContext,
    private readonly events: EventsService,
  ) {}

  /** In the transaction of the movement; of the context's tenant. */
  tell(tx: Tx, state: AccountState | null): void {
    if (!state) return;
    const { balance, held, lowThreshold } = state;
    const data = { balance, held, low_threshold: lowThreshold };
    if (state.low) this.events.publish(tx, { type: 'credits.low', data });
    if (!state.exhausted) return;
    this.events.publish(tx, { type: 'credits.exhausted', data });
    this.logger.warn({ msg: 'Credits are exhausted', tenant: this.context.tenant.name, balance });
  }
}
