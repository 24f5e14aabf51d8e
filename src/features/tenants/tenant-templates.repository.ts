import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { ListTemplates, TenantTemplate } from './tenant-templates.dto.js';

const COLUMNS = `name, description, body, created_by AS "createdBy", created_at AS "createdAt", updated_at AS "updatedAt"`;
const SORTABLE = { name: 'name', created_at: 'created_at' };

/** Templates belong to the platform. */
@Injectable()
export class TenantTemplatesRepository {
  /** @param lock keeps others from changing it until the transaction ends */
  async find(tx: Tx, name: string, { lock = false } = {}): Promise<TenantTemplate | null> {
    const rows: TenantTemplate[] = await tx.query(
      `SELECT ${COLUMNS} FROM tenant_templates WHERE name = $1${lock ? ' FOR UPDATE' : ''}`,
      [name],
    );
    return rows[0] ?? null;
  }

  /** @returns false where the name is taken */
  async insert(
    tx: Tx,
    template: Pick<TenantTemplate, 'name' | 'description' | 'body' | 'createdBy'>,
  ): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO tenant_templates (name, description, body, created_by) VALUES ($1, $2, $3, $4)
       ON CONFLICT DO NOTHING RETURNING name`,
      [template.name, template.description, JSON.stringify(template.body), template.createdBy],
    );
    return rows.length === 1;
  }

  async update(
    tx: Tx,
    name: string,
    { description, body }: Pick<TenantTemplate, 'description' | 'body'>,
  ): Promise<void> {
    await tx.query(
      'UPDATE tenant_templates SET description = $2, body = $3, updated_at = now() WHERE name = $1',
      [name, description, JSON.stringify(body)],
    );
  }

  async delete(tx: Tx, name: string): Promise<void> {
    await tx.query('DELETE FROM tenant_templates WHERE name = $1', [name]);
  }

  async list(tx: Tx, query: ListTemplates): Promise<Page<TenantTemplate>> {
    const pattern = query.search ? likePattern(query.search) : null;
    const where = `WHERE $1::text IS NULL OR name ILIKE $1 OR description ILIKE $1`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total FROM tenant_templates ${where}`, [
      pattern,
    ]);
    const items: TenantTemplate[] = await tx.query(
      `SELECT ${COLUMNS} FROM tenant_templates ${where} ORDER BY ${orderBy(query.sort, SORTABLE)}, name
       LIMIT $2 OFFSET $3`,
      [pattern, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }
}
