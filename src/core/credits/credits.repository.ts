import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Tx } from '../../foundation/database/transaction.js';
import type { PricedLine } from './price-list.js';

/** On whose account, and what for. */
export interface Movement {
  operation: string | null;
  lines: readonly PricedLine[];
  idempotencyKey: string;
  tokenId: string | null;
  userId: string | null;
  note: string | null;
}

/** How the account stands after a movement, and what became true with it. */
export interface AccountState {
  balance: number;
  held: number;
  lowThreshold: number | null;
  /** The balance has just crossed the threshold downwards. */
  low: boolean;
  /** There has just become too little. */
  exhausted: boolean;
}

/** What stands in the way. */
export interface Refusal {
  required: number;
  available: number;
  missing: number;
}

interface Answer extends Partial<AccountState>, Partial<Refusal> {
  outcome: string;
  low_threshold?: number | null;
  reservation_id?: string;
  charged?: number;
  shortfall?: number;
  sequence?: number;
  released?: number;
  expired?: number;
}

export type ReserveOutcome =
  | { outcome: 'reserved' | 'replayed'; reservationId: string; state: AccountState | null }
  | { outcome: 'insufficient' | 'budget'; refusal: Refusal; state: AccountState | null }
  | { outcome: 'key_reused' | 'overflow'; state: null };

/** `released` and `expired`: the reservation had ended before, and nothing was taken. */
export interface CommitOutcome {
  outcome: 'committed' | 'replayed' | 'key_reused' | 'released' | 'expired' | 'unknown';
  charged: number;
  /** What it cost beyond what could be taken. */
  shortfall: number;
  state: AccountState | null;
}

export interface ReleaseOutcome {
  outcome: 'released' | 'committed' | 'expired' | 'unknown';
  state: AccountState | null;
}

export type AddOutcome =
  | { outcome: 'added' | 'replayed'; sequence: number; state: AccountState | null }
  | { outcome: 'insufficient'; refusal: Refusal; state: null }
  /** `expired`: its time had come already. */
  | { outcome: 'key_reused' | 'overflow' | 'expired'; state: null };

/** The movements of credits, each one call of a function that stands with the tables. */
@Injectable()
export class CreditsRepository {
  /** @param seconds after which what nobody has come back for is released */
  async reserve(
    tx: Tx,
    id: string,
    estimate: number,
    movement: Movement,
    seconds: number,
    enforced: boolean,
  ): Promise<ReserveOutcome> {
    const answer = await this.call(tx, 'reserve_credits($1::uuid, $2::bigint, $3::jsonb, $4, $5)', [
      id,
      estimate,
      aboutOf(movement),
      seconds,
      enforced,
    ]);
    const state = stateOf(answer);
    if (answer.outcome === 'reserved' || answer.outcome === 'replayed')
      return { outcome: answer.outcome, reservationId: answer.reservation_id as string, state };
    if (answer.outcome === 'insufficient' || answer.outcome === 'budget')
      return { outcome: answer.outcome, refusal: refusalOf(answer), state };
    return { outcome: answer.outcome as 'key_reused' | 'overflow', state: null };
  }

  async commit(
    tx: Tx,
    id: string,
    cost: number,
    lines: readonly PricedLine[],
    enforced: boolean,
  ): Promise<CommitOutcome> {
    const answer = await this.call(tx, 'commit_credits($1::uuid, $2::bigint, $3::jsonb, $4)', [
      id,
      cost,
      JSON.stringify(lines),
      enforced,
    ]);
    return {
      outcome: answer.outcome as CommitOutcome['outcome'],
      charged: answer.charged ?? 0,
      shortfall: answer.shortfall ?? 0,
      state: stateOf(answer),
    };
  }

  async release(tx: Tx, id: string, note: string | null): Promise<ReleaseOutcome> {
    const answer = await this.call(tx, 'release_credits($1::uuid, $2)', [id, note]);
    return { outcome: answer.outcome as ReleaseOutcome['outcome'], state: stateOf(answer) };
  }

  /** Says that somebody still works on it. @returns false where it is not open any more */
  async renew(tx: Tx, id: string, seconds: number): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      `UPDATE credit_reservations SET expires_at = greatest(expires_at, now() + make_interval(secs => $2))
       WHERE id = $1 AND status = 'open'`,
      [id, seconds],
    );
    return count === 1;
  }

  /** @param amount any but 0; what is negative is an `adjust` */
  async add(
    tx: Tx,
    type: 'grant' | 'adjust',
    amount: number,
    expiresAt: Date | null,
    movement: Movement,
    enforced: boolean,
  ): Promise<AddOutcome> {
    const answer = await this.call(tx, 'add_credits($1, $2::bigint, $3::timestamptz, $4::jsonb, $5)', [
      type,
      amount,
      expiresAt,
      aboutOf(movement),
      enforced,
    ]);
    if (answer.outcome === 'added' || answer.outcome === 'replayed')
      return { outcome: answer.outcome, sequence: answer.sequence as number, state: stateOf(answer) };
    if (answer.outcome === 'insufficient')
      return { outcome: 'insufficient', refusal: refusalOf(answer), state: null };
    return { outcome: answer.outcome as 'key_reused' | 'overflow' | 'expired', state: null };
  }

  /** Takes what has become due: once for each key, and as far as the balance allows where that is enforced. */
  async charge(tx: Tx, cost: number, movement: Movement, enforced: boolean): Promise<AccountState | null> {
    return stateOf(
      await this.call(tx, 'charge_credits($1::bigint, $2::jsonb, $3)', [cost, aboutOf(movement), enforced]),
    );
  }

  /** Releases reservations that nobody has come back for, and expires grants: at most `limit` of each. */
  async sweep(
    tx: Tx,
    limit: number,
  ): Promise<{ released: number; expired: number; state: AccountState | null }> {
    const answer = await this.call(tx, 'sweep_credits($1)', [limit]);
    return { released: answer.released ?? 0, expired: answer.expired ?? 0, state: stateOf(answer) };
  }

  /**
   * Forgets reservations that have ended, the oldest first; what they moved stays in the ledger. In a transaction of the
   * platform. Their ids are in the order of their time (UUIDv7), so that the primary key finds them.
   *
   * @returns how many went; fewer than the limit: there are no more
   */
  async deleteClosed(tx: Tx, before: Date, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM credit_reservations WHERE id IN (
         SELECT id FROM credit_reservations WHERE id < $1 AND closed_at < $2 ORDER BY id LIMIT $3)`,
      [uuidv7({ msecs: before.getTime() }), before, limit],
    );
    return count;
  }

  /** @param threshold null: a tenth of the last grant */
  async setLowThreshold(
    tx: Tx,
    threshold: number | null,
  ): Promise<{ before: number | null; state: AccountState }> {
    const [{ tenantId, before }] = await tx.query(
      `SELECT tenant_id AS "tenantId", low_threshold AS before FROM lock_credit_account()`,
    );
    await tx.query('UPDATE credit_accounts SET low_threshold = $2 WHERE tenant_id = $1', [
      tenantId,
      threshold,
    ]);
    const answer = await this.call(tx, 'watch_credits($1::uuid, false)', [tenantId]);
    return { before: before === null ? null : Number(before), state: stateOf(answer) as AccountState };
  }

  private async call(tx: Tx, call: string, parameters: unknown[]): Promise<Answer> {
    const [{ answer }] = await tx.query(`SELECT ${call} AS answer`, parameters);
    return answer as Answer;
  }
}

const aboutOf = (movement: Movement): string =>
  JSON.stringify({
    operation: movement.operation,
    lines: movement.lines,
    idempotency_key: movement.idempotencyKey,
    token_id: movement.tokenId,
    user_id: movement.userId,
    note: movement.note,
  });

function stateOf(answer: Answer): AccountState | null {
  const { balance, held, low_threshold: lowThreshold = null, low = false, exhausted = false } = answer;
  return balance === undefined || held === undefined ? null : { balance, held, lowThreshold, low, exhausted };
}

const refusalOf = ({ required = 0, available = 0, missing = 0 }: Answer): Refusal => ({
  required,
  available,
  missing,
});
