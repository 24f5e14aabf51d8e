import { Injectable } from '@nestjs/common';
import { type QueryDeepPartialEntity, QueryFailedError } from 'typeorm';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import { Tenant } from './tenant.entity.js';
import type { ListTenants, TenantStatistics } from './tenants.dto.js';

const SORTABLE = { name: 't.name', created_at: 't.created_at', display_name: 't.display_name' };

@Injectable()
export class TenantsRepository {
  findById(tx: Tx, id: string): Promise<Tenant | null> {
    return tx.getRepository(Tenant).findOneBy({ id });
  }

  /** The same, which nobody else changes until the transaction ends. */
  lock(tx: Tx, id: string): Promise<Tenant | null> {
    return tx.getRepository(Tenant).findOne({ where: { id }, lock: { mode: 'pessimistic_write' } });
  }

  /** Several at once, in the order in which everybody locks them. */
  lockAll(tx: Tx, ids: readonly string[]): Promise<Tenant[]> {
    return tx
      .getRepository(Tenant)
      .createQueryBuilder('t')
      .where('t.id = ANY (:ids)', { ids })
      .orderBy('t.id')
      .setLock('pessimistic_write')
      .getMany();
  }

  /** Keeps a tenant what it is, while another is put under it. */
  lockParent(tx: Tx, id: string): Promise<Tenant | null> {
    return tx.getRepository(Tenant).findOne({ where: { id }, lock: { mode: 'pessimistic_read' } });
  }

  async hasChildren(tx: Tx, id: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM tenants WHERE parent_id = $1 LIMIT 1', [id]);
    return rows.length > 0;
  }

  /** How many tenants a user has made, while that user makes no other until the transaction ends. */
  async lockAndCountMadeBy(tx: Tx, userId: string): Promise<number> {
    await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`tenants-of/${userId}`]);
    const [{ count }] = await tx.query('SELECT count(*)::int AS count FROM tenants WHERE created_by = $1', [
      userId,
    ]);
    return count as number;
  }

  /** @returns false where the name is taken */
  async insert(tx: Tx, tenant: Partial<Tenant>): Promise<boolean> {
    const result = await tx
      .getRepository(Tenant)
      .createQueryBuilder()
      .insert()
      .values(tenant as QueryDeepPartialEntity<Tenant>)
      .orIgnore()
      .returning('id')
      .execute();
    return (result.raw as unknown[]).length === 1;
  }

  async update(tx: Tx, id: string, changes: Partial<Tenant>): Promise<void> {
    await tx.getRepository(Tenant).update({ id }, { ...changes, updatedAt: new Date() } as never);
  }

  /** Whether a statement failed because another tenant has the name. */
  isNameTaken(error: unknown): boolean {
    if (!(error instanceof QueryFailedError)) return false;
    return (error.driverError as { constraint?: string }).constraint === 'tenants_name_key';
  }

  /** @returns false where that is its status already, or it is being erased */
  async setStatus(tx: Tx, id: string, status: Tenant['status']): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE tenants SET status = $2, updated_at = now()
       WHERE id = $1 AND status NOT IN ($2, 'erasing') RETURNING id`,
      [id, status],
    );
    return rows.length === 1;
  }

  /**
   * All tenants, or those in which `memberId` is an active member. The page is found in an index and filled after: the
   * last page costs little more than the first.
   */
  async list(tx: Tx, query: ListTenants, memberId: string | null): Promise<Page<Tenant>> {
    const page = tx.getRepository(Tenant).createQueryBuilder('t').select('t.id', 'id');
    if (memberId) {
      page
        .andWhere(
          `EXISTS (SELECT FROM members m WHERE m.tenant_id = t.id AND m.user_id = :memberId AND m.status = 'active')`,
          { memberId },
        )
        .andWhere(`t.status <> 'erasing'`);
    }
    if (query.status) page.andWhere('t.status = :status', { status: query.status });
    if (query.type) page.andWhere('t.type = :type', { type: query.type });
    if (query.plan_tier) page.andWhere('t.plan_tier = :planTier', { planTier: query.plan_tier });
    if (query.parent_id) page.andWhere('t.parent_id = :parentId', { parentId: query.parent_id });
    if (query.search) {
      page.andWhere('(t.name ILIKE :search OR t.display_name ILIKE :search)', {
        search: likePattern(query.search),
      });
    }
    const total = await page.getCount();
    const [column, direction] = orderBy(query.sort, SORTABLE).split(' ') as [string, 'ASC' | 'DESC'];
    page.orderBy(column, direction);
    // In the direction of the index, which can be read either way but not both at once; names are unique by themselves.
    if (column !== SORTABLE.name) page.addOrderBy('t.id', direction);
    const ids = await page
      .offset((query.page - 1) * query.page_size)
      .limit(query.page_size)
      .getRawMany<{ id: string }>();
    if (ids.length === 0) return { items: [], total };
    const found = await tx
      .getRepository(Tenant)
      .createQueryBuilder('t')
      .where('t.id = ANY (:ids)', { ids: ids.map(({ id }) => id) })
      .getMany();
    const byId = new Map(found.map(tenant => [tenant.id, tenant]));
    return { items: ids.flatMap(({ id }) => byId.get(id) ?? []), total };
  }

  /** All tenants, page by page in the order of their ids. */
  namesAfter(tx: Tx, after: string | null, limit: number): Promise<Array<Pick<Tenant, 'id' | 'name'>>> {
    return tx.query('SELECT id, name FROM tenants WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2', [
      after,
      limit,
    ]);
  }

  /** Counted, of the transaction's tenant. */
  async statistics(tx: Tx): Promise<TenantStatistics> {
    const [row] = await tx.query(`
      SELECT (SELECT count(*) FROM knowledge_bases)::int AS "kbCount",
             (SELECT coalesce(sum(document_count), 0) FROM knowledge_bases)::int AS "documentCount",
             (SELECT coalesce(sum(storage_bytes), 0) FROM knowledge_bases)::float8 AS "storageBytes",
             (SELECT count(*) FROM members)::int AS "memberCount"`);
    return row as TenantStatistics;
  }
}
