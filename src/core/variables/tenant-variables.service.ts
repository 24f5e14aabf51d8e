import { Injectable } from '@nestjs/common';
import { SealedBox } from '../../foundation/crypto/sealed-box.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { AuditService } from '../audit/audit.service.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import type { ListVariables, TenantVariable } from './tenant-variables.dto.js';
import { TenantVariablesRepository } from './tenant-variables.repository.js';

/** Of the change feed: variables of a tenant were set or deleted; keyed by its id. */
export const VARIABLES_TOPIC = 'tenant-variables';

const NAME = /^[A-Z][A-Z0-9_]{0,63}$/;
const REFERENCE = /\$\{([A-Z][A-Z0-9_]{0,63})\}/g;
const MOST_VARIABLES = 200;

/** Names of the tenant’s variables in a text, each once. */
export const variablesIn = (text: string): string[] => [
  ...new Set([...text.matchAll(REFERENCE)].map(match => match[1] as string)),
];

/** A text names a variable that the tenant does not have. */
export class UnknownVariableError extends Error {
  override readonly name = 'UnknownVariableError';

  constructor(readonly variables: readonly string[]) {
    super(`There is no variable ${variables.join(', ')}.`);
  }
}

/** Names and sealed values of a tenant: written, used by this server, and never shown again. */
@Injectable()
export class TenantVariablesService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly variables: TenantVariablesRepository,
    private readonly box: SealedBox,
    private readonly changes: ChangeFeed,
    private readonly audit: AuditService,
  ) {}

  list(query: ListVariables): Promise<Page<TenantVariable>> {
    return this.database.run(tx => this.variables.list(tx, query));
  }

  /** @throws Problem 404 */
  get(name: string): Promise<TenantVariable> {
    return this.database.run(async tx => {
      const variable = await this.variables.find(tx, name);
      if (!variable) throw Problem.notFound('variable');
      return variable;
    });
  }

  /** @throws Problem 409 `too_many_variables`, 422 for a name that is none */
  set(name: string, value: string): Promise<TenantVariable> {
    if (!NAME.test(name)) {
      const message = 'must be at most 64 capital letters, digits and underscores, and begin with a letter';
      throw Problem.invalid([{ path: 'variable', code: 'invalid_name', message }]);
    }
    const tenantId = this.context.tenant.id;
    const sealed = this.box.seal(value, contextOf(tenantId, name));
    const updatedBy = this.context.userId;
    return this.database.run(async tx => {
      // Of several at once, one goes first: they are counted.
      if (!(await this.variables.lockTenant(tx, tenantId))) throw Problem.notFound('tenant');
      const before = await this.variables.find(tx, name);
      if (before) await this.variables.update(tx, { name, sealed, updatedBy });
      else {
        if ((await this.variables.count(tx)) >= MOST_VARIABLES) {
          const message = `A tenant has at most ${MOST_VARIABLES} variables.`;
          throw Problem.conflict('too_many_variables', message);
        }
        await this.variables.insert(tx, { tenantId, name, sealed, updatedBy });
      }
      await this.changed(tx, before ? 'variable.updated' : 'variable.created', name);
      return (await this.variables.find(tx, name)) as TenantVariable;
    });
  }

  /** @throws Problem 404 */
  delete(name: string): Promise<void> {
    return this.database.run(async tx => {
      if (!(await this.variables.delete(tx, name))) throw Problem.notFound('variable');
      await this.changed(tx, 'variable.deleted', name);
    });
  }

  /**
   * Puts the values of the tenant's variables where a text names them as `${NAME}`. What comes of it is a secret: it
   * belongs into no log, error or answer.
   *
   * @throws UnknownVariableError
   */
  async resolve(text: string): Promise<string> {
    const names = variablesIn(text);
    if (names.length === 0) return text;
    const tenantId = this.context.tenant.id;
    const found = await this.database.run(tx => this.variables.sealed(tx, names));
    const values = new Map(
      found.map(({ name, sealed }) => [name, this.box.open(sealed, contextOf(tenantId, name))]),
    );
    const unknown = names.filter(name => !values.has(name));
    if (unknown.length > 0) throw new UnknownVariableError(unknown);
    return text.replaceAll(REFERENCE, (_, name: string) => values.get(name) as string);
  }

  /**
   * Seals the values of the context's tenant anew that are sealed with a key of before.
   *
   * @returns how many, and the names of those that no key of the settings opens
   */
  async reseal(): Promise<{ count: number; lost: string[] }> {
    const tenantId = this.context.tenant.id;
    return this.database.run(async tx => {
      let count = 0;
      const lost: string[] = [];
      for (const { name, sealed } of await this.variables.allSealed(tx)) {
        if (this.box.isCurrent(sealed)) continue;
        const context = contextOf(tenantId, name);
        const renewed = this.box.renew(sealed, context);
        if (!renewed) lost.push(name);
        else if (await this.variables.reseal(tx, { name, sealed: renewed }, sealed)) count++;
      }
      return { count, lost };
    });
  }

  private async changed(tx: Tx, action: string, name: string): Promise<void> {
    await this.changes.publish(tx, VARIABLES_TOPIC, this.context.tenant.id);
    this.audit.record(tx, { action, resource: { type: 'variable', id: name } });
  }
}

/** A value that is put under another name, or into another tenant, does not open. */
const contextOf = (tenantId: string, name: string): string => `${tenantId}/${name}`;
