import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { MailService } from '../../core/mail/mail.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import { PasswordsService, WELCOME_LIFETIME } from '../users/passwords.service.js';
import { UsersService } from '../users/users.service.js';
import { type Account, AccountsRepository } from './accounts.repository.js';
import type { CheckedRow, RowError } from './import-rows.js';
import { type ImportedRow, toImportedRow } from './member-import.dto.js';
import { MembersRepository } from './members.repository.js';

/** In whose name rows become members of which tenant. */
export interface BatchOrder {
  tenantId: string;
  /** As people read it. */
  tenantName: string;
  askedBy: string;
  sendMails: boolean;
  withTokens: boolean;
  /** Of the audit: the job, or the request. */
  import: string;
  /** Whoever joined since then through `askedBy` is this import's own work. */
  since: Date;
}

/** A row with the account that it has found or made. */
interface Placed {
  row: CheckedRow;
  account: Account;
}

/** Turns rows into members, some hundred in one transaction, with a number of statements that does not grow with them. */
@Injectable()
export class ImportBatchService {
  constructor(
    private readonly database: PlatformDatabase,
    private readonly authorization: AuthorizationService,
    private readonly roles: RolesService,
    private readonly users: UsersService,
    private readonly accounts: AccountsRepository,
    private readonly members: MembersRepository,
    private readonly passwords: PasswordsService,
    private readonly mail: MailService,
    private readonly audit: AuditService,
  ) {}

  /** What somebody else has done meanwhile is an outcome of the row that it concerns. */
  async run(rows: readonly CheckedRow[], order: BatchOrder): Promise<ImportedRow[]> {
    const refusal = await this.refusalOf(rows, order);
    const open = rows.filter(
      row => row.outcome !== 'invalid' && row.outcome !== 'unchanged' && !refusal(row),
    );
    const done = await this.carryOutWithinLimit(open, order);
    const rest = rows
      .filter(row => !open.includes(row))
      .map(row => {
        const reason = row.outcome === 'invalid' || row.outcome === 'unchanged' ? null : refusal(row);
        return reason ? skipped(row, reason) : toImportedRow(row);
      });
    return [...done, ...rest];
  }

  /** Whether whoever asked may still do it: a long list takes its time. */
  private async refusalOf(
    rows: readonly CheckedRow[],
    { tenantId, askedBy }: BatchOrder,
  ): Promise<(row: CheckedRow) => RowError | null> {
    const domain = tenantDomain(tenantId);
    const asker = await this.users.get(askedBy);
    if (!asker.isActive || !(await this.authorization.can(askedBy, domain, 'tenant:manage_members'))) {
      return () => reason('row', 'no_longer_allowed', 'Whoever started this import may no longer do it.');
    }
    const above = new Set<string>();
    for (const role of new Set(rows.flatMap(row => row.roles))) {
      if (!(await this.authorization.outranks(askedBy, role, domain))) above.add(role);
    }
    return row => {
      const role = row.roles.find(given => above.has(given));
      return role === undefined
        ? null
        : reason('role', 'role_above_own', `The role ${role} may do what you may not.`);
    };
  }

  /** Where the tenant has no room for all, as many as it has room for: of the rest each row says so. */
  private async carryOutWithinLimit(rows: readonly CheckedRow[], order: BatchOrder): Promise<ImportedRow[]> {
    const results: ImportedRow[] = [];
    let open = rows;
    let most = rows.length;
    while (open.length > 0 && most > 0) {
      const part = open.slice(0, most);
      try {
        results.push(...(await this.database.run(tx => this.carryOut(tx, part, order))));
        open = open.slice(most);
      } catch (error) {
        const room = roomIn(error);
        if (room === null) throw error;
        // Somebody else may take the room meanwhile: it gets less with every attempt, and ends.
        most = Math.min(room, part.length - 1);
      }
    }
    if (open.length === 0) return results;
    const inside = await this.database.run(tx => this.membersAmong(tx, open, order));
    const known = open.filter(row => inside.has(row.email));
    // Those take no room.
    if (known.length > 0) results.push(...(await this.database.run(tx => this.carryOut(tx, known, order))));
    const full = reason('row', 'quota_exceeded', 'The tenant has no room for another member.');
    return [...results, ...open.filter(row => !inside.has(row.email)).map(row => skipped(row, full))];
  }

  /** By address: whom an attempt before this one, or somebody else, has made a member. */
  private async membersAmong(
    tx: Tx,
    rows: readonly CheckedRow[],
    { tenantId }: BatchOrder,
  ): Promise<Set<string>> {
    const accounts = [...(await this.accountsOf(tx, rows))];
    const ids = accounts.map(([, { id }]) => id);
    const members = new Set((await this.members.joined(tx, tenantId, ids)).map(({ userId }) => userId));
    return new Set(accounts.filter(([, { id }]) => members.has(id)).map(([email]) => email));
  }

  private async carryOut(tx: Tx, rows: readonly CheckedRow[], order: BatchOrder): Promise<ImportedRow[]> {
    const gone = new Set(
      await this.roles.unknown(tx, order.tenantId, [...new Set(rows.flatMap(row => row.roles))]),
    );
    const results: ImportedRow[] = [];
    // In one order everywhere: two imports of the same people wait for each other, and not in a circle.
    const open = rows
      .filter(row => {
        const role = row.roles.find(given => gone.has(given));
        if (role !== undefined) {
          results.push(skipped(row, reason('role', 'role_gone', `There is no role ${role} any more.`)));
        }
        return role === undefined;
      })
      .toSorted((a, b) => (a.email < b.email ? -1 : 1));
    const created = await this.createAccounts(tx, open, order);
    const placed: Placed[] = [];
    const accounts = await this.accountsOf(tx, open);
    for (const row of open) {
      const account = accounts.get(row.email);
      if (account) placed.push({ row, account });
      // The address is free, so that it was the user name.
      else
        results.push(skipped(row, reason('username', 'username_taken', 'belongs to another account by now')));
    }
    const joined = await this.join(tx, placed, order);
    const former = await this.formerJoins(tx, placed, joined, order);
    for (const { row, account } of placed) {
      const made = created.has(account.id) || account.id === row.id;
      const own = made || joined.has(account.id) || former.has(account.id);
      results.push(toImportedRow(row, own ? (made ? 'created' : 'added') : 'unchanged', account.id));
    }
    return results;
  }

  private async createAccounts(tx: Tx, rows: readonly CheckedRow[], order: BatchOrder): Promise<Set<string>> {
    const created = new Set(
      await this.accounts.insert(
        tx,
        rows.map(({ id, email, username, displayName }) => ({
          id,
          email,
          username,
          displayName,
          passwordHash: null,
          emailVerified: false,
        })),
      ),
    );
    for (const { id, email } of rows) {
      if (!created.has(id)) continue;
      this.audit.recordForPlatform(tx, {
        action: 'user.created',
        resource: { type: 'user', id },
        details: { email, tenant_id: order.tenantId, import: order.import },
      });
    }
    return created;
  }

  private async accountsOf(tx: Tx, rows: readonly CheckedRow[]): Promise<Map<string, Account>> {
    const emails = rows.map(row => row.email);
    const accounts = await this.accounts.findByEmails(tx, emails);
    return new Map(accounts.map(account => [account.email.toLowerCase(), account]));
  }

  /** @returns ids of those who are members now and were none before */
  private async join(tx: Tx, placed: readonly Placed[], order: BatchOrder): Promise<Set<string>> {
    const { tenantId, askedBy } = order;
    const userIds = placed.map(({ account }) => account.id);
    const joined = new Set(await this.members.insertMany(tx, tenantId, userIds, askedBy));
    const newcomers = placed.filter(({ account }) => joined.has(account.id));
    if (newcomers.length === 0) return joined;
    await this.authorization.assignRoles(
      tx,
      newcomers.flatMap(({ row, account }) => row.roles.map(role => ({ userId: account.id, role }))),
      tenantDomain(tenantId),
    );
    if (order.sendMails) await this.welcome(tx, newcomers, order);
    for (const { row, account } of newcomers) {
      this.audit.recordForTenant(tx, tenantId, {
        action: 'member.added',
        resource: { type: 'member', id: account.id },
        details: { email: account.email, roles: row.roles, import: order.import },
      });
    }
    return joined;
  }

  /** Those whom an attempt before this one has made members. */
  private async formerJoins(
    tx: Tx,
    placed: readonly Placed[],
    joined: ReadonlySet<string>,
    { tenantId, askedBy, since }: BatchOrder,
  ): Promise<Set<string>> {
    const others = placed.map(({ account }) => account.id).filter(id => !joined.has(id));
    if (others.length === 0) return new Set();
    const members = await this.members.joined(tx, tenantId, others);
    return new Set(
      members
        .filter(({ joinedAt, joinedBy }) => joinedBy === askedBy && joinedAt >= since)
        .map(({ userId }) => userId),
    );
  }

  private async welcome(
    tx: Tx,
    newcomers: readonly Placed[],
    { tenantId, tenantName, withTokens }: BatchOrder,
  ): Promise<void> {
    const without = newcomers.filter(({ account }) => withTokens && !account.hasPassword);
    const tokens = await this.passwords.issueTokens(
      tx,
      without.map(({ account }) => account.id),
      WELCOME_LIFETIME,
    );
    await this.mail.sendMany(
      tx,
      newcomers.map(({ row, account: { id, email, language } }) => ({
        template: 'welcome' as const,
        data: { tenantName, roles: row.roles, token: tokens.get(id)?.token ?? null },
        to: email,
        language,
        tenantId,
      })),
    );
  }
}

/** For how many more the tenant had room; null for every other error. */
function roomIn(error: unknown): number | null {
  if (!(error instanceof Problem) || error.code !== 'quota_exceeded') return null;
  const { used, max } = error.options.members as { used: number; max: number };
  return Math.max(0, max - used);
}

const reason = (field: string, code: string, message: string): RowError => ({ field, code, message });

const skipped = (row: CheckedRow, why: RowError): ImportedRow =>
  toImportedRow({ ...row, errors: [...row.errors, why] }, 'skipped');
