import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Role } from './roles.dto.js';

/** What still gives a role to somebody. */
export interface RoleUses {
  members: number;
  grants: number;
  invitations: number;
}

/** A knowledge base as far as it decides about permissions. */
export interface KbFacts {
  id: string;
  slug: string;
  visibility: 'tenant' | 'granted';
}

/** Custom roles of a tenant; what they may do are Casbin's rules in the tenant's domain. */
@Injectable()
export class RolesRepository {
  /** Those of `names` that the tenant has as roles of its own; they cannot be deleted before the transaction ends. */
  async existing(tx: Tx, tenantId: string, names: readonly string[]): Promise<string[]> {
    const rows: Array<{ name: string }> = await tx.query(
      'SELECT name FROM roles WHERE tenant_id = $1 AND name = ANY ($2) ORDER BY name FOR KEY SHARE',
      [tenantId, names],
    );
    return rows.map(row => row.name);
  }

  /** @returns false where the tenant has a role of this name */
  async insert(
    tx: Tx,
    role: { tenantId: string; name: string; description: string; createdBy: string | null },
  ): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO roles (tenant_id, name, description, created_by) VALUES ($1, $2, $3, $4)
       ON CONFLICT DO NOTHING RETURNING name`,
      [role.tenantId, role.name, role.description, role.createdBy],
    );
    return rows.length === 1;
  }

  /** Own roles of a tenant, while nobody else can make another until the transaction ends. */
  async lockAndCount(tx: Tx, tenantId: string): Promise<number> {
    await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`roles/${tenantId}`]);
    const [{ count }] = await tx.query('SELECT count(*)::int AS count FROM roles WHERE tenant_id = $1', [
      tenantId,
    ]);
    return count as number;
  }

  /** Of the transaction's tenant, with what they may do. @param name one of them alone */
  async custom(tx: Tx, name: string | null = null): Promise<Role[]> {
    return tx.query(
      `SELECT r.name, r.description, false AS "builtIn", r.created_by AS "createdBy", r.created_at AS "createdAt",
              r.updated_at AS "updatedAt",
              ARRAY(SELECT p.v2 || ':' || p.v3 FROM casbin_rule p
                    WHERE p.ptype = 'p' AND p.v0 = r.name AND p.domain = 'tenant_' || r.tenant_id ORDER BY p.id) AS permissions,
              (SELECT count(*)::int FROM casbin_rule g
               WHERE g.ptype = 'g' AND g.v1 = r.name AND g.domain = 'tenant_' || r.tenant_id) AS "memberCount"
       FROM roles r WHERE $1::text IS NULL OR r.name = $1 ORDER BY r.name`,
      [name],
    );
  }

  /** How many members of the transaction's tenant hold each of its roles. */
  async memberCounts(tx: Tx, tenantId: string): Promise<Map<string, number>> {
    const rows: Array<{ role: string; count: number }> = await tx.query(
      `SELECT v1 AS role, count(*)::int AS count FROM casbin_rule WHERE ptype = 'g' AND tenant_id = $1 GROUP BY v1`,
      [tenantId],
    );
    return new Map(rows.map(({ role, count }) => [role, count]));
  }

  /** Locks a role for a change of what it may do. @returns false where there is none */
  async lock(tx: Tx, name: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM roles WHERE name = $1 FOR NO KEY UPDATE', [name]);
    return rows.length === 1;
  }

  /** Locks a role so that nobody can be given it meanwhile. @returns false where there is none */
  async lockForDeletion(tx: Tx, name: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM roles WHERE name = $1 FOR UPDATE', [name]);
    return rows.length === 1;
  }

  async update(tx: Tx, name: string, description: string): Promise<void> {
    await tx.query('UPDATE roles SET description = $2, updated_at = now() WHERE name = $1', [
      name,
      description,
    ]);
  }

  async delete(tx: Tx, name: string): Promise<void> {
    await tx.query('DELETE FROM roles WHERE name = $1', [name]);
  }

  /** Invitations count too that have expired but may be sent again. */
  async usesOf(tx: Tx, tenantId: string, name: string): Promise<RoleUses> {
    const [uses] = await tx.query<[RoleUses]>(
      `SELECT (SELECT count(*)::int FROM casbin_rule WHERE ptype = 'g' AND tenant_id = $1 AND v1 = $2) AS members,
              (SELECT count(*)::int FROM kb_grants WHERE role = $2) AS grants,
              (SELECT count(*)::int FROM invitations WHERE status = 'pending' AND $2 = ANY (roles)) AS invitations`,
      [tenantId, name],
    );
    return uses;
  }

  /** A knowledge base that the transaction may see. @param reference id or slug */
  async findKb(tx: Tx, reference: string): Promise<KbFacts | null> {
    const rows: KbFacts[] = await tx.query(
      'SELECT id, slug, visibility FROM knowledge_bases WHERE id::text = $1 OR slug = $1',
      [reference.toLowerCase()],
    );
    return rows[0] ?? null;
  }

  async isMember(tx: Tx, userId: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM members WHERE user_id = $1', [userId]);
    return rows.length === 1;
  }

  groups(tx: Tx, ids: readonly string[]): Promise<Array<{ id: string; name: string }>> {
    return tx.query('SELECT id, name FROM groups WHERE id = ANY ($1::uuid[]) ORDER BY lower(name), id', [
      ids,
    ]);
  }
}
