import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import {
  ENTRY_COLUMNS,
  type ModelEntry,
  type ModelFields,
  type NewModel,
  type SealedModelEntry,
} from './model-entry.js';
import type { ModelType } from './model-provider.js';

const FOREIGN_KEY_VIOLATION = '23503';

/** One place in a tenant's order of models. */
export interface DefaultRow {
  modelType: ModelType;
  /** Of the tenant's own entry, or of the platform's. */
  id: string;
}

/** Models of the transaction's tenant. */
@Injectable()
export class ModelsRepository {
  /** Changes of a tenant's models go one after the other: they are counted. */
  async lockTenant(tx: Tx, tenantId: string): Promise<void> {
    await tx.query('SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE', [tenantId]);
  }

  list(tx: Tx): Promise<ModelEntry[]> {
    return tx.query(`SELECT ${ENTRY_COLUMNS} FROM models m ORDER BY m.created_at, m.id`);
  }

  /** Those that may be used, in the order in which they were made. */
  listUsable(tx: Tx): Promise<SealedModelEntry[]> {
    return tx.query(
      `SELECT ${ENTRY_COLUMNS}, m.api_key AS "apiKey" FROM models m WHERE m.status = 'active'
       ORDER BY m.created_at, m.id`,
    );
  }

  async find(tx: Tx, id: string): Promise<SealedModelEntry | null> {
    const rows: SealedModelEntry[] = await tx.query(
      `SELECT ${ENTRY_COLUMNS}, m.api_key AS "apiKey" FROM models m WHERE m.id = $1`,
      [id],
    );
    return rows[0] ?? null;
  }

  async count(tx: Tx): Promise<number> {
    const [{ count }] = await tx.query('SELECT count(*)::int AS count FROM models');
    return count as number;
  }

  /** @returns false where the name is taken */
  async insert(tx: Tx, tenantId: string, model: NewModel): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO models (id, tenant_id, provider, model_type, model_name, display_name, api_base, api_key,
                           api_key_last_four, api_key_variables, max_tokens, dimensions, settings, price_per_1k, status,
                           created_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
       ON CONFLICT DO NOTHING RETURNING id`,
      [
        model.id,
        tenantId,
        model.provider,
        model.modelType,
        model.modelName,
        model.displayName,
        model.apiBase,
        model.key?.sealed ?? null,
        model.key?.lastFour ?? null,
        model.key?.variables ?? [],
        model.maxTokens,
        model.dimensions,
        JSON.stringify(model.settings),
        model.pricePer1k,
        model.status,
        model.createdBy,
      ],
    );
    return rows.length === 1;
  }

  /** Whether another entry of the type has the name. */
  async isNameTaken(tx: Tx, id: string, modelType: ModelType, displayName: string): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      'SELECT FROM models WHERE model_type = $2 AND lower(display_name) = lower($3) AND id <> $1',
      [id, modelType, displayName],
    );
    return rows.length > 0;
  }

  async update(tx: Tx, id: string, fields: ModelFields): Promise<void> {
    await tx.query(
      `UPDATE models SET display_name = $2, api_base = $3, max_tokens = $4, dimensions = $5, settings = $6,
              price_per_1k = $7, status = $8, updated_at = now(),
              api_key = CASE WHEN $9 THEN $10 ELSE api_key END,
              api_key_last_four = CASE WHEN $9 THEN $11 ELSE api_key_last_four END,
              api_key_variables = CASE WHEN $9 THEN $12 ELSE api_key_variables END
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
        fields.key !== undefined,
        fields.key?.sealed ?? null,
        fields.key?.lastFour ?? null,
        fields.key?.variables ?? [],
      ],
    );
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM models WHERE id = $1', [id]);
  }

  /** Knowledge bases with vectors of this name. */
  async countKbsWithVectors(tx: Tx, name: string): Promise<number> {
    const [{ count }] = await tx.query(
      'SELECT count(*)::int AS count FROM knowledge_bases WHERE chunk_count > 0 AND embedding_model = $1',
      [name],
    );
    return count as number;
  }

  /** In their order, by type. */
  defaults(tx: Tx): Promise<DefaultRow[]> {
    return tx.query(
      `SELECT model_type AS "modelType", coalesce(model_id, platform_model_id) AS id FROM model_defaults
       ORDER BY model_type, position`,
    );
  }

  /**
   * @param ids with whether each is the tenant's own
   * @returns the place of one that was deleted meanwhile, after which the transaction takes nothing more; null: none was
   */
  async setDefaults(
    tx: Tx,
    tenantId: string,
    modelType: ModelType,
    ids: ReadonlyArray<{ id: string; own: boolean }>,
  ): Promise<number | null> {
    await tx.query('DELETE FROM model_defaults WHERE model_type = $1', [modelType]);
    for (const [position, { id, own }] of ids.entries()) {
      try {
        await tx.query(
          `INSERT INTO model_defaults (tenant_id, model_type, position, model_id, platform_model_id)
           VALUES ($1, $2, $3, $4, $5)`,
          [tenantId, modelType, position, own ? id : null, own ? null : id],
        );
      } catch (error) {
        const { driverError } = error as { driverError?: { code?: string } };
        if (driverError?.code !== FOREIGN_KEY_VIOLATION) throw error;
        return position;
      }
    }
    return null;
  }

  allSealed(tx: Tx): Promise<Array<{ id: string; displayName: string; apiKey: Buffer }>> {
    return tx.query(
      `SELECT id, display_name AS "displayName", api_key AS "apiKey" FROM models WHERE api_key IS NOT NULL ORDER BY id`,
    );
  }

  /** Puts the same value under another key, unless it was changed since `before` was read. */
  async reseal(tx: Tx, id: string, sealed: Buffer, before: Buffer): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'UPDATE models SET api_key = $2 WHERE id = $1 AND api_key = $3',
      [id, sealed, before],
    );
    return count === 1;
  }
}
