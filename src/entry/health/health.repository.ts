import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

@Injectable()
export class HealthRepository {
  async ping(tx: Tx): Promise<boolean> {
    await tx.query('SELECT 1');
    return true;
  }
}
