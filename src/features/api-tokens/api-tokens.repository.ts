import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { ApiToken } from './api-token.js';
import type { ListApiTokens } from './api-tokens.dto.js';

/** Of PostgreSQL. */
const UNIQUE_VIOLATION = '23505';

const SORTABLE = {
  created_at: 't.created_at',
  name: 'lower(t.name)',
  last_used_at: 't.last_used_at',
  expires_at: 't.expires_at',
};

const TOKEN = `
  t.id, t.name, t.kind, t.scopes, t.kb_ids AS "kbIds", t.agent_ids AS "agentIds",
  t.allowed_origins AS "allowedOrigins", t.rate_limit_per_minute AS "rateLimitPerMinute",
  t.monthly_credit_budget::float8 AS "monthlyCreditBudget", t.expires_at AS "expiresAt",
  t.last_used_at AS "lastUsedAt", t.created_by AS "createdBy", t.is_active AS "isActive",
  t.created_at AS "createdAt", t.updated_at AS "updatedAt"`;

/** A secret as it is stored. */
export interface NewTokenSecret {
  prefix: string;
  tenantId: string;
  tokenId: string;
  hash: Buffer;
}

type StoredToken = Omit<ApiToken, 'secrets'>;
/** What a change may change. */
export type TokenChanges = Pick<
  ApiToken,
  | 'name'
  | 'scopes'
  | 'kbIds'
  | 'agentIds'
  | 'allowedOrigins'
  | 'rateLimitPerMinute'
  | 'monthlyCreditBudget'
  | 'expiresAt'
  | 'isActive'
>;

/** API tokens of the transaction's tenant. */
@Injectable()
export class ApiTokensRepository {
  async find(tx: Tx, id: string): Promise<ApiToken | null> {
    const [token] = await this.withSecrets(
      tx,
      await tx.query(`SELECT ${TOKEN} FROM api_tokens t WHERE t.id = $1`, [id]),
    );
    return token ?? null;
  }

  /** Nobody else changes it until the transaction ends. @returns false where there is none */
  async lock(tx: Tx, id: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM api_tokens WHERE id = $1 FOR NO KEY UPDATE', [id]);
    return rows.length === 1;
  }

  async list(tx: Tx, query: ListApiTokens): Promise<Page<ApiToken>> {
    const conditions = ['true'];
    const parameters: unknown[] = [];
    const add = (value: unknown, condition: (parameter: string) => string) => {
      if (value === undefined) return;
      parameters.push(value);
      conditions.push(condition(`$${parameters.length}`));
    };
    const pattern = query.search && likePattern(query.search.normalize('NFC'));
    // What its secret begins with is all that a log tells of a token.
    add(
      pattern || undefined,
      p =>
        `(t.name ILIKE ${p} OR EXISTS (SELECT FROM api_token_secrets s WHERE s.token_id = t.id AND s.prefix ILIKE ${p}))`,
    );
    add(query.kind, p => `t.kind = ${p}`);
    add(query.is_active, p => `t.is_active = ${p}`);
    add(query.expired, p => `coalesce(t.expires_at <= now(), false) = ${p}`);
    add(query.created_by, p => `t.created_by = ${p}`);
    add(query.kb_id, p => `${p} = ANY (t.kb_ids)`);
    const from = `FROM api_tokens t WHERE ${conditions.join(' AND ')}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, parameters);
    const rows: StoredToken[] = await tx.query(
      `SELECT ${TOKEN} ${from} ORDER BY ${orderBy(query.sort, SORTABLE)} NULLS LAST, t.id
       LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items: await this.withSecrets(tx, rows), total };
  }

  /** @returns false where the tenant has a token of this name */
  async insert(
    tx: Tx,
    token: TokenChanges & { id: string; tenantId: string; kind: string; createdBy: string },
  ): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO api_tokens (id, tenant_id, name, kind, scopes, kb_ids, agent_ids, allowed_origins,
                               rate_limit_per_minute, monthly_credit_budget, expires_at, created_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING RETURNING id`,
      [
        token.id,
        token.tenantId,
        token.name,
        token.kind,
        token.scopes,
        token.kbIds,
        token.agentIds,
        token.allowedOrigins,
        token.rateLimitPerMinute,
        token.monthlyCreditBudget,
        token.expiresAt,
        token.createdBy,
      ],
    );
    return rows.length === 1;
  }

  /** @returns false where another token has this name; the transaction is then good for nothing more */
  async update(tx: Tx, id: string, changes: TokenChanges): Promise<boolean> {
    try {
      await tx.query(
        `UPDATE api_tokens SET name = $2, scopes = $3, kb_ids = $4, agent_ids = $5, allowed_origins = $6,
                               rate_limit_per_minute = $7, monthly_credit_budget = $8, expires_at = $9,
                               is_active = $10, updated_at = now()
         WHERE id = $1`,
        [
          id,
          changes.name,
          changes.scopes,
          changes.kbIds,
          changes.agentIds,
          changes.allowedOrigins,
          changes.rateLimitPerMinute,
          changes.monthlyCreditBudget,
          changes.expiresAt,
          changes.isActive,
        ],
      );
      return true;
    } catch (error) {
      if ((error as { driverError?: { code?: string } }).driverError?.code === UNIQUE_VIOLATION) return false;
      throw error;
    }
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM api_tokens WHERE id = $1', [id]);
  }

  /** @returns false where another secret begins with the same characters */
  async insertSecret(tx: Tx, { prefix, tenantId, tokenId, hash }: NewTokenSecret): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO api_token_secrets (prefix, tenant_id, token_id, hash) VALUES ($1, $2, $3, $4)
       ON CONFLICT DO NOTHING RETURNING prefix`,
      [prefix, tenantId, tokenId, hash],
    );
    return rows.length === 1;
  }

  /** Ends those that a token has at `until`, where they do not end sooner; what is not good any more then goes. */
  async endSecrets(tx: Tx, tokenId: string, until: Date, now: Date): Promise<void> {
    await tx.query(
      `UPDATE api_token_secrets SET expires_at = least(expires_at, $2::timestamptz) WHERE token_id = $1`,
      [tokenId, until],
    );
    await tx.query('DELETE FROM api_token_secrets WHERE token_id = $1 AND expires_at <= $2::timestamptz', [
      tokenId,
      now,
    ]);
    await tx.query('UPDATE api_tokens SET updated_at = now() WHERE id = $1', [tokenId]);
  }

  /** Those of `ids` that the transaction sees as knowledge bases. */
  async visibleKbs(tx: Tx, ids: readonly string[]): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      'SELECT id FROM knowledge_bases WHERE id = ANY ($1::uuid[])',
      [ids],
    );
    return rows.map(row => row.id);
  }

  /** Those of `ids` that the transaction sees as agents. */
  async visibleAgents(tx: Tx, ids: readonly string[]): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query('SELECT id FROM agents WHERE id = ANY ($1::uuid[])', [
      ids,
    ]);
    return rows.map(row => row.id);
  }

  private async withSecrets(tx: Tx, tokens: StoredToken[]): Promise<ApiToken[]> {
    if (tokens.length === 0) return [];
    const rows: Array<ApiToken['secrets'][number] & { tokenId: string }> = await tx.query(
      `SELECT token_id AS "tokenId", prefix, created_at AS "createdAt", expires_at AS "expiresAt"
       FROM api_token_secrets WHERE token_id = ANY ($1::uuid[])
       ORDER BY expires_at DESC NULLS FIRST, created_at DESC`,
      [tokens.map(({ id }) => id)],
    );
    return tokens.map(token => ({
      ...token,
      secrets: rows
        .filter(({ tokenId, expiresAt }) => tokenId === token.id && !(expiresAt && expiresAt <= new Date()))
        .map(({ prefix, createdAt, expiresAt }) => ({ prefix, createdAt, expiresAt })),
    }));
  }
}
