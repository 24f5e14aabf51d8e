import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import type { ListVariables, TenantVariable } from './tenant-variables.dto.js';

const COLUMNS = `name, updated_by AS "updatedBy", created_at AS "createdAt", updated_at AS "updatedAt"`;

export interface SealedVariable {
  name: string;
  sealed: Buffer;
}

/** Sealed variables of the transaction's tenant. */
@Injectable()
export class TenantVariablesRepository {
  /** Keeps others from changing the tenant's variables until the transaction ends. @returns false where there is no such tenant */
  async lockTenant(tx: Tx, tenantId: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE', [tenantId]);
    return rows.length === 1;
  }

  async list(tx: Tx, query: ListVariables): Promise<Page<TenantVariable>> {
    const [{ total }] = await tx.query('SELECT count(*)::int AS total FROM tenant_variables');
    const items: TenantVariable[] = await tx.query(
      `SELECT ${COLUMNS} FROM tenant_variables ORDER BY name LIMIT $1 OFFSET $2`,
      [query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }

  async find(tx: Tx, name: string): Promise<TenantVariable | null> {
    const rows: TenantVariable[] = await tx.query(`SELECT ${COLUMNS} FROM tenant_variables WHERE name = $1`, [
      name,
    ]);
    return rows[0] ?? null;
  }

  async count(tx: Tx): Promise<number> {
    const [{ count }] = await tx.query('SELECT count(*)::int AS count FROM tenant_variables');
    return count as number;
  }

  async insert(tx: Tx, variable: SealedVariable & { tenantId: string; updatedBy: string }): Promise<void> {
    await tx.query(
      'INSERT INTO tenant_variables (tenant_id, name, sealed, updated_by) VALUES ($1, $2, $3, $4)',
      [variable.tenantId, variable.name, variable.sealed, variable.updatedBy],
    );
  }

  async update(tx: Tx, { name, sealed, updatedBy }: SealedVariable & { updatedBy: string }): Promise<void> {
    await tx.query(
      'UPDATE tenant_variables SET sealed = $2, updated_by = $3, updated_at = now() WHERE name = $1',
      [name, sealed, updatedBy],
    );
  }

  /** @returns false where there is none */
  async delete(tx: Tx, name: string): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query('DELETE FROM tenant_variables WHERE name = $1', [
      name,
    ]);
    return count === 1;
  }

  /** Of these names, those that there are. */
  sealed(tx: Tx, names: readonly string[]): Promise<SealedVariable[]> {
    return tx.query('SELECT name, sealed FROM tenant_variables WHERE name = ANY ($1)', [names]);
  }

  allSealed(tx: Tx): Promise<SealedVariable[]> {
    return tx.query('SELECT name, sealed FROM tenant_variables ORDER BY name');
  }

  /** Puts the same value under another key, unless it was changed since `before` was read. */
  async reseal(tx: Tx, { name, sealed }: SealedVariable, before: Buffer): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'UPDATE tenant_variables SET sealed = $2 WHERE name = $1 AND sealed = $3',
      [name, sealed, before],
    );
    return count === 1;
  }
}
