import { Injectable } from '@nestjs/common';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { UserSessionsRepository } from './user-sessions.repository.js';

/** Of the change feed: a session ended, or whose it is changed. */
export const SESSION_TOPIC = 'session';
/** Of the change feed: an account changed, so that its sign-ins, or what it has made, may not count any more. */
export const USER_TOPIC = 'user';

/** What happens to an account happens to its sign-ins, in every process. */
@Injectable()
export class UserSessionsService {
  constructor(
    private readonly sessions: UserSessionsRepository,
    private readonly changes: ChangeFeed,
  ) {}

  /** Ends every session of a user. @returns how many @param except the one that goes on */
  async endAll(tx: Tx, userId: string, except: string | null = null): Promise<number> {
    const ended = await this.sessions.revokeAll(tx, userId, except);
    for (const id of ended) await this.changes.publish(tx, SESSION_TOPIC, id);
    await this.changes.publish(tx, USER_TOPIC, userId);
    return ended.length;
  }

  /** Announces that what is remembered of a user with their sessions is out of date. */
  async userChanged(tx: Tx, userId: string): Promise<void> {
    for (const id of await this.sessions.list(tx, userId)) await this.changes.publish(tx, SESSION_TOPIC, id);
    await this.changes.publish(tx, USER_TOPIC, userId);
  }
}
