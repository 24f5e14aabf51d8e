import { Injectable, type OnModuleInit } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { BackgroundJobs, JobError, type JobRun } from '../../core/jobs/background-jobs.service.js';
import type { Job } from '../../core/jobs/jobs.repository.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { type FieldError, Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import { AccountsRepository } from './accounts.repository.js';
import { tooManyRows } from './csv-rows.js';
import { type BatchOrder, ImportBatchService } from './import-batch.service.js';
import { type CheckedRow, MOST_ROWS, type RawRow, checkRows } from './import-rows.js';
import {
  type ImportOptions,
  type ImportResult,
  type ImportedRow,
  toImportResult,
  toImportedRow,
} from './member-import.dto.js';
import { MembersRepository } from './members.repository.js';

/** Up to so many rows are done while the request waits. */
const MOST_AT_ONCE = 1_000;
/** Rows of one transaction. */
const BATCH = 500;
/** More would only repeat the same mistake; `rows` has them all. */
const MOST_ERRORS = 1_000;
const IMPORT_JOB = 'member-import';

/** A list that waits to be done, or is being done again by somebody after a crash. */
interface ImportPayload {
  rows: CheckedRow[];
  order: Omit<BatchOrder, 'import' | 'since'> & { since: string };
}

/** Adds many people at once: all rows are checked before the first is done. */
@Injectable()
export class MemberImportService implements OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly roles: RolesService,
    private readonly accounts: AccountsRepository,
    private readonly members: MembersRepository,
    private readonly batches: ImportBatchService,
    private readonly jobs: BackgroundJobs,
    private readonly quotas: QuotasService,
  ) {}

  onModuleInit(): void {
    this.jobs.define<ImportPayload>({ kind: IMPORT_JOB, mostAttempts: 5, run: job => this.work(job) });
  }

  /**
   * @returns what became of each row; of a long list the job that does it
   * @throws Problem 403 `quota_exceeded` where not all of them have room and a part is not wanted, 413 `too_many_rows`,
   * 422 with what is wrong in each row, where one is and the rest is not wanted
   */
  async import(rows: readonly RawRow[], options: ImportOptions): Promise<ImportResult | Job> {
    if (rows.length > MOST_ROWS) throw tooManyRows();
    const checked = await this.check(rows);
    if (options.onError === 'abort') {
      const newcomers = checked.filter(({ outcome }) => outcome === 'created' || outcome === 'added');
      await this.quotas.requireRoomForUsers(newcomers.length);
    }
    if (options.dryRun)
      return toImportResult(
        checked.map(row => toImportedRow(row)),
        true,
      );
    const invalid = checked.filter(row => row.outcome === 'invalid');
    if (invalid.length > 0 && options.onError === 'abort') throw refused(checked, invalid);
    const order = {
      tenantId: this.context.tenant.id,
      tenantName: await this.tenantName(),
      askedBy: this.context.userId,
      sendMails: options.sendMails,
      withTokens: options.withTokens,
    };
    const since = new Date();
    if (checked.length > MOST_AT_ONCE) {
      const payload: ImportPayload = { rows: checked, order: { ...order, since: since.toISOString() } };
      const { tenantId } = order;
      const id = await this.database.run(tx =>
        this.jobs.enqueue(tx, { kind: IMPORT_JOB, payload, tenantId, permission: 'tenant:manage_members' }),
      );
      return this.jobs.get(id);
    }
    const reference = this.context.actor.requestId ?? order.askedBy;
    return this.carryOut(checked, { ...order, since, import: reference }, () => Promise.resolve());
  }

  /** Batches that a former attempt has done are recognised, and done no second time. */
  private async work(job: JobRun<ImportPayload>): Promise<ImportResult> {
    const { payload, signal } = job;
    const order = { ...payload.order, since: new Date(payload.order.since), import: job.id };
    return this.carryOut(payload.rows, order, async done => {
      signal.throwIfAborted();
      await job.report('import', done / payload.rows.length);
      const tenant = await this.directory.find(order.tenantId);
      if (tenant?.status !== 'active') throw new JobError('tenant_suspended', 'The tenant is suspended.');
    });
  }

  /** @param before is called before each batch, with the number of rows behind it */
  private async carryOut(
    rows: readonly CheckedRow[],
    order: BatchOrder,
    before: (done: number) => Promise<void>,
  ): Promise<ImportResult> {
    const imported: ImportedRow[] = [];
    for (let done = 0; done < rows.length; done += BATCH) {
      await before(done);
      imported.push(...(await this.batches.run(rows.slice(done, done + BATCH), order)));
    }
    return toImportResult(imported, false);
  }

  /** What each row would come to, with everything that is wrong with it. */
  private async check(raw: readonly RawRow[]): Promise<CheckedRow[]> {
    const rows = checkRows(raw);
    const { id: tenantId } = this.context.tenant;
    const named = [...new Set(rows.flatMap(row => row.roles))];
    const sound = rows.filter(row => row.outcome !== 'invalid');
    const { unknown, accounts, members, usernames } = await this.database.run(async tx => {
      const emails = sound.map(row => row.email);
      const known = await this.accounts.findByEmails(tx, emails);
      const wanted = sound.flatMap(row => row.username ?? []);
      return {
        unknown: new Set(await this.roles.unknown(tx, tenantId, named)),
        accounts: new Map(known.map(account => [account.email.toLowerCase(), account.id])),
        members: await this.members.joined(
          tx,
          tenantId,
          known.map(account => account.id),
        ),
        usernames: new Set(await this.accounts.takenUsernames(tx, wanted)),
      };
    });
    const memberIds = new Set(members.map(member => member.userId));
    const above = await this.above(named.filter(role => !unknown.has(role)));
    for (const row of rows) {
      for (const role of row.roles) {
        if (unknown.has(role)) row.errors.push(error('role', 'unknown_role', `There is no role ${role}.`));
        if (above.has(role)) row.errors.push(roleAboveOwn(role));
      }
      const account = accounts.get(row.email);
      // Whoever has an account keeps the user name of that.
      if (!account && row.username && usernames.has(row.username.toLowerCase())) {
        row.errors.push(error('username', 'username_taken', 'belongs to another account'));
      }
      if (row.errors.length > 0) row.outcome = 'invalid';
      else if (account) row.outcome = memberIds.has(account) ? 'unchanged' : 'added';
    }
    return rows;
  }

  /** Roles that may do what the principal may not. */
  private async above(roles: readonly string[]): Promise<Set<string>> {
    const domain = tenantDomain(this.context.tenant.id);
    const above = new Set<string>();
    for (const role of roles) {
      if (!(await this.authorization.outranks(this.context.subject, role, domain))) above.add(role);
    }
    return above;
  }

  private async tenantName(): Promise<string> {
    const { id, name } = this.context.tenant;
    return (await this.directory.find(id))?.displayName ?? name;
  }
}

const error = (field: string, code: string, message: string) => ({ field, code, message });

const roleAboveOwn = (role: string) =>
  error('role', 'role_above_own', `The role ${role} may do what you may not.`);

/** Nothing was done: says of every row what is wrong with it, or what it would have come to. */
function refused(rows: readonly CheckedRow[], invalid: readonly CheckedRow[]): Problem {
  const errors = invalid.flatMap(row =>
    row.errors.map(({ field, code, message }): FieldError => {
      const place = row.line === null ? `users.${row.row - 1}` : `lines.${row.line}`;
      return { path: `${place}.${field}`, code, message };
    }),
  );
  const { summary, rows: all } = toImportResult(
    rows.map(row => toImportedRow(row)),
    true,
  );
  return new Problem(
    422,
    'validation_failed',
    `${invalid.length} of ${rows.length} rows are not valid; nothing was done.`,
    { errors: errors.slice(0, MOST_ERRORS), members: { summary, rows: all } },
  );
}
