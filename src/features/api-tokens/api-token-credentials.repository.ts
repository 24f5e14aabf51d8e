import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { TokenKind } from './api-token.js';

const TOKEN = `t.id AS "tokenId", t.name, u.id AS "userId", t.tenant_id AS "tenantId", t.kind, t.scopes,
  t.kb_ids AS "kbIds", t.agent_ids AS "agentIds", t.rate_limit_per_minute AS "rateLimitPerMinute",
  t.monthly_credit_budget::float8 AS "monthlyCreditBudget"`;

/** What decides whether a secret opens anything, and as whom. */
export interface KnownSecret extends KnownToken {
  hash: Buffer;
}

/** What decides what a token may do. */
export interface KnownToken {
  /** Of the secret or of its token, whichever ends first. */
  expiresAt: Date | null;
  tokenId: string;
  name: string;
  userId: string;
  tenantId: string;
  kind: TokenKind;
  scopes: string[];
  kbIds: string[] | null;
  agentIds: string[] | null;
  rateLimitPerMinute: number;
  monthlyCreditBudget: number | null;
}

/** API tokens of all tenants, in transactions of the platform: whose one is, is found before a tenant is entered. */
@Injectable()
export class ApiTokenCredentialsRepository {
  /** @returns null too where the token is not active, or its creator may not sign in */
  async find(tx: Tx, prefix: string): Promise<KnownSecret | null> {
    const rows: KnownSecret[] = await tx.query(
      `SELECT s.hash, least(s.expires_at, t.expires_at) AS "expiresAt", ${TOKEN}
       FROM api_token_secrets s
       JOIN api_tokens t ON t.id = s.token_id
       JOIN users u ON u.id = t.created_by
       WHERE s.prefix = $1 AND t.is_active AND u.is_active`,
      [prefix],
    );
    return rows[0] ?? null;
  }

  /** The same by its id, for work that somebody with a secret of it has asked for before. */
  async findById(tx: Tx, id: string): Promise<KnownToken | null> {
    const rows: KnownToken[] = await tx.query(
      `SELECT t.expires_at AS "expiresAt", ${TOKEN} FROM api_tokens t JOIN users u ON u.id = t.created_by
       WHERE t.id = $1 AND t.is_active AND u.is_active`,
      [id],
    );
    return rows[0] ?? null;
  }

  /**
   * @param uses when each token was used last
   * @param seconds what was written less than this before stays: another process has seen to it
   */
  async writeUses(
    tx: Tx,
    uses: ReadonlyArray<readonly [id: string, at: Date]>,
    seconds: number,
  ): Promise<void> {
    await tx.query(
      `UPDATE api_tokens t SET last_used_at = u.at
       FROM unnest($1::uuid[], $2::timestamptz[]) AS u(id, at)
       WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at <= u.at - make_interval(secs => $3))`,
      [uses.map(([id]) => id), uses.map(([, at]) => at.toISOString()), seconds],
    );
  }
}
