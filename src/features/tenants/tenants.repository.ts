import { Injectable } from '@nestjs/common';
import type { QueryDeepPartialEntity } from 'typeorm';
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

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.getRepository(Tenant).delete({ id });
  }

  /** All tenants, or those in which `memberId` is an active member. */
  async list(tx: Tx, query: ListTenants, memberId: string | null): Promise<Page<Tenant>> {
    const builder = tx.getRepository(Tenant).createQueryBuilder('t');
    if (memberId) {
      builder.andWhere(
        `EXISTS (SELECT FROM members m WHERE m.tenant_id = t.id AND m.user_id = :memberId AND m.status = 'active')`,
        { memberId },
      );
    }
    if (query.status) builder.andWhere('t.status = :status', { status: query.status });
    if (query.type) builder.andWhere('t.type = :type', { type: query.type });
    if (query.search) {
      builder.andWhere('(t.name ILIKE :search OR t.display_name ILIKE :search)', {
        search: likePattern(query.search),
      });
    }
    const total = await builder.getCount();
    const [column, direction] = orderBy(query.sort, SORTABLE).split(' ') as [string, 'ASC' | 'DESC'];
    const items = await builder
      .orderBy(
        column.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
        direction,
      )
      .addOrderBy('t.id')
      .offset((query.page - 1) * query.page_size)
      .limit(query.page_size)
      .getMany();
    return { items, total };
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
