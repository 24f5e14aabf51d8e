import { Inject, Injectable } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { PLATFORM_ROLE } from '../../foundation/database/roles.js';
import { APPLICATION_DATA_SOURCE } from '../../foundation/database/tokens.js';
import { type Tx, runTransaction } from '../../foundation/database/transaction.js';
import { QuotaSignals } from './quota-exceeded.js';

/**
 * The door to what belongs to no tenant: users, sessions, the register of tenants and who is a member where. Its
 * role has no privilege on what tenants keep (knowledge bases, texts, chunks). Few rooms may import it.
 */
@Injectable()
export class PlatformDatabase {
  constructor(
    @Inject(APPLICATION_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly quotas: QuotaSignals = new QuotaSignals(),
  ) {}

  /** @throws Problem 403 `quota_exceeded` */
  run<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return runTransaction(this.dataSource, `SET LOCAL ROLE ${PLATFORM_ROLE}`, work).catch(
      (error: unknown) => {
        throw this.quotas.translate(error);
      },
    );
  }
}
