import { Injectable } from '@nestjs/common';
import casbinRule from 'typeorm-adapter/lib/casbinRule.js';
import typeormAdapter from 'typeorm-adapter';
import { type DataSource, type FindOptionsWhere, In } from 'typeorm';
import type { Tx } from '../../foundation/database/transaction.js';

/** The table of typeorm-adapter: a "p" rule is (role, domain, object, action), a "g" rule (user, role, domain). */
export const CasbinRule = casbinRule.CasbinRule;
export type RulesAdapter = Awaited<ReturnType<typeof typeormAdapter.default.newAdapter>>;
export type RulesFilter = FindOptionsWhere<InstanceType<typeof CasbinRule>>;

/** Casbin's rules, through typeorm-adapter, in the caller's transaction. */
@Injectable()
export class CasbinRulesRepository {
  /** The adapter takes a data source; of that it uses what an entity manager has too, so it joins the transaction. */
  adapter(tx: Tx): Promise<RulesAdapter> {
    const connection = {
      options: tx.dataSource.options,
      isInitialized: true,
      getRepository: tx.getRepository.bind(tx),
    };
    return typeormAdapter.default.newAdapter({ connection: connection as unknown as DataSource });
  }

  async addRole(tx: Tx, userId: string, role: string, domain: string): Promise<void> {
    const adapter = await this.adapter(tx);
    await adapter.addPolicy('g', 'g', [userId, role, domain]);
  }

  async removeRole(tx: Tx, userId: string, role: string, domain: string): Promise<void> {
    const adapter = await this.adapter(tx);
    await adapter.removePolicy('g', 'g', [userId, role, domain]);
  }

  /**
   * What decides about one user in one domain: which roles the user has, and, where `withRoles`, what those of the
   * domain allow.
   *
   * @param assignedIn domains whose roles count for the user
   */
  filterFor(domain: string, assignedIn: string[], userId: string, withRoles: boolean): RulesFilter[] {
    const everyDomain = domain.replace(/_.*$/, '_*');
    const assignments = { ptype: 'g', v0: userId, v2: In(assignedIn) };
    return withRoles ? [{ ptype: 'p', v1: In([domain, everyDomain, '*']) }, assignments] : [assignments];
  }

  /** The roles of one user in one domain. */
  async rolesOf(tx: Tx, userId: string, domain: string): Promise<string[]> {
    const rules = await tx.getRepository(CasbinRule).find({ where: { ptype: 'g', v0: userId, v2: domain } });
    return rules.map(rule => rule.v1);
  }

  /** Replaces what a role may do in a tenant's domain. @param permissions object and action of each */
  async setPermissions(
    tx: Tx,
    role: string,
    domain: string,
    permissions: ReadonlyArray<readonly [object: string, action: string]>,
  ): Promise<void> {
    await tx.query(`DELETE FROM casbin_rule WHERE ptype = 'p' AND v0 = $1 AND domain = $2`, [role, domain]);
    if (permissions.length === 0) return;
    await tx.query(
      `INSERT INTO casbin_rule (ptype, v0, v1, v2, v3)
       SELECT 'p', $1, $2, * FROM unnest($3::text[], $4::text[])`,
      [role, domain, permissions.map(([object]) => object), permissions.map(([, action]) => action)],
    );
  }

  /** Gives roles to many users at once; what they hold already stays. */
  async addRoles(
    tx: Tx,
    assignments: ReadonlyArray<{ userId: string; role: string }>,
    domain: string,
  ): Promise<void> {
    await tx.query(
      `INSERT INTO casbin_rule (ptype, v0, v1, v2) SELECT 'g', v0, v1, $3 FROM unnest($1::text[], $2::text[]) AS a(v0, v1)
       ON CONFLICT DO NOTHING`,
      [assignments.map(({ userId }) => userId), assignments.map(({ role }) => role), domain],
    );
  }

  /** Who holds `role` in the domain. The rules stay locked, so that two removals at once cannot both be of the last. */
  async lockHolders(tx: Tx, role: string, domain: string): Promise<string[]> {
    const rules: Array<{ v0: string }> = await tx.query(
      `SELECT v0 FROM casbin_rule WHERE ptype = 'g' AND v1 = $1 AND domain = $2 ORDER BY id FOR UPDATE`,
      [role, domain],
    );
    return rules.map(rule => rule.v0);
  }

  /** The same where there may be no rule to lock yet: the lock is on the role's name, until the transaction ends. */
  async lockRole(tx: Tx, role: string, domain: string): Promise<void> {
    await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`${domain}/${role}`]);
  }
}
