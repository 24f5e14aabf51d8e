import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { ENTRY_COLUMNS, type ModelFields, type NewModel, type SealedPlatformEntry } from './model-entry.js';
import type { ModelType } from './model-provider.js';

const COLUMNS = `${ENTRY_COLUMNS}, m.api_key AS "apiKey", m.shared_with_all AS "sharedWithAll",
  m.default_position AS "defaultPosition",
  coalesce((SELECT array_agg(t.tenant_id ORDER BY t.tenant_id) FROM platform_model_tenants t
            WHERE t.platform_model_id = m.id), '{}')::text[] AS "tenantIds"`;

export type NewPlatformModel = NewModel & { sharedWithAll: boolean };
export type PlatformModelFields = ModelFields & { sharedWithAll: boolean };

/** Tokens of one model, to be added. */
export interface UsedTokens {
  id: string;
  tokens: number;
}

/** The platform's models; in transactions of the platform. */
@Injectable()
export class PlatformModelsRepository {
  /** Changes go one after the other. */
  async lock(tx: Tx): Promise<void> {
    await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('platform-models', 0))`);
  }

  list(tx: Tx): Promise<SealedPlatformEntry[]> {
    return tx.query(`SELECT ${COLUMNS} FROM platform_models m ORDER BY m.created_at, m.id`);
  }

  async find(tx: Tx, id: string): Promise<SealedPlatformEntry | null> {
    const rows: SealedPlatformEntry[] = await tx.query(
      `SELECT ${COLUMNS} FROM platform_models m WHERE m.id = $1`,
      [id],
    );
    return rows[0] ?? null;
  }

  /** @returns false where the name is taken */
  async insert(tx: Tx, model: NewPlatformModel): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO platform_models (id, provider, model_type, model_name, display_name, api_base, api_key,
                                    api_key_last_four, max_tokens, dimensions, settings, price_per_1k, status, created_by,
                                    shared_with_all)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
       ON CONFLICT DO NOTHING RETURNING id`,
      [
        model.id,
        model.provider,
        model.modelType,
        model.modelName,
        model.displayName,
        model.apiBase,
        model.key?.sealed ?? null,
        model.key?.lastFour ?? null,
        model.maxTokens,
        model.dimensions,
        JSON.stringify(model.settings),
        model.pricePer1k,
        model.status,
        model.createdBy,
        model.sharedWithAll,
      ],
    );
    return rows.length === 1;
  }

  async isNameTaken(tx: Tx, id: string, modelType: ModelType, displayName: string): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      'SELECT FROM platform_models WHERE model_type = $2 AND lower(display_name) = lower($3) AND id <> $1',
      [id, modelType, displayName],
    );
    return rows.length > 0;
  }

  async update(tx: Tx, id: string, fields: PlatformModelFields): Promise<void> {
    await tx.query(
      `UPDATE platform_models SET display_name = $2, api_base = $3, max_tokens = $4, dimensions = $5, settings = $6,
              price_per_1k = $7, status = $8, shared_with_all = $9, updated_at = now(),
              api_key = CASE WHEN $10 THEN $11 ELSE api_key END,
              api_key_last_four = CASE WHEN $10 THEN $12 ELSE api_key_last_four END
       WHERE id = $1`,
      [
        id,
        fields.displayName,
        fields.apiBase,
        fields.maxTokens,
        fields.dimensions,
        JSON.stringify(fields.settings),
        fields.pricePer1k,
        fields.status,
        fields.sharedWithAll,
        fields.key !== undefined,
        fields.key?.sealed ?? null,
        fields.key?.lastFour ?? null,
      ],
    );
  }

  /** @param references ids or names. @returns the ids of those that there are */
  async tenantIds(tx: Tx, references: readonly string[]): Promise<Array<{ id: string; name: string }>> {
    return tx.query(
      'SELECT id, name FROM tenants WHERE id::text = ANY ($1::text[]) OR name = ANY ($1::text[])',
      [references],
    );
  }

  async shareWith(tx: Tx, id: string, tenantIds: readonly string[]): Promise<void> {
    await tx.query(
      'DELETE FROM platform_model_tenants WHERE platform_model_id = $1 AND tenant_id <> ALL ($2::uuid[])',
      [id, tenantIds],
    );
    await tx.query(
      `INSERT INTO platform_model_tenants (platform_model_id, tenant_id)
       SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING`,
      [id, tenantIds],
    );
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM platform_models WHERE id = $1', [id]);
  }

  /** The defaults of a type, in their order; no others are any more. */
  async setDefaults(tx: Tx, modelType: ModelType, ids: readonly string[]): Promise<void> {
    await tx.query(
      `UPDATE platform_models SET default_position = array_position($2::uuid[], id) - 1
       WHERE model_type = $1 AND default_position IS DISTINCT FROM array_position($2::uuid[], id) - 1`,
      [modelType, ids],
    );
  }

  /** Adds up what was used, of the platform's models and of all tenants'; in one order, so that two processes cannot meet. */
  async addUsed(tx: Tx, used: readonly UsedTokens[]): Promise<void> {
    const parameters = [used.map(({ id }) => id), used.map(({ tokens }) => tokens)];
    for (const table of ['models', 'platform_models']) {
      await tx.query(
        `WITH used AS (SELECT unnest($1::uuid[]) AS id, unnest($2::bigint[]) AS tokens),
              locked AS MATERIALIZED (SELECT id FROM ${table} WHERE id IN (SELECT id FROM used) ORDER BY id FOR NO KEY UPDATE)
         UPDATE ${table} m SET used_tokens = used_tokens + used.tokens
         FROM used JOIN locked USING (id) WHERE m.id = used.id`,
        parameters,
      );
    }
  }

  allSealed(tx: Tx): Promise<Array<{ id: string; displayName: string; apiKey: Buffer }>> {
    return tx.query(
      `SELECT id, display_name AS "displayName", api_key AS "apiKey" FROM platform_models
       WHERE api_key IS NOT NULL ORDER BY id`,
    );
  }

  /** Puts the same value under another key, unless it was changed since `before` was read. */
  async reseal(tx: Tx, id: string, sealed: Buffer, before: Buffer): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'UPDATE platform_models SET api_key = $2 WHERE id = $1 AND api_key = $3',
      [id, sealed, before],
    );
    return count === 1;
  }
}
