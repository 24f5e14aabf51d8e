import { Inject, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { Readable } from 'node:stream';
import { AuditService } from '../../core/audit/audit.service.js';
import { BackgroundJobs, JobError } from '../../core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { FileMissingError, FileStorage, type StoredFile } from '../../foundation/storage/file-storage.js';
import { type StoredOriginal, StorageSweepRepository, type TenantName } from './storage-sweep.repository.js';

export const INSTALLATION = Symbol('INSTALLATION');

const SWEEP_JOB = 'storage-sweep';
const DAY_S = 24 * 3_600;
const MOST_ATTEMPTS = 3;
/** Minutes that a file has to be there before it is missed by nobody: its upload may be under way. */
export const GRACE_MINUTES = 60;
const FILES_AT_ONCE = 1_000;
const TENANTS_AT_ONCE = 500;
const REQUESTS_AT_ONCE = 32;
/** Lost originals that the log names; all are counted. */
const MOST_NAMED = 100;
/** Says whose files these are. */
const OWNER_KEY = '.installation';

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
/** Tenant, knowledge base, and the content's SHA-256 with an id, or the document's id alone as it once was. */
const KEY = new RegExp(`^(${UUID})/${UUID}/(?:[0-9a-f]{64}-)?${UUID}$`);

export interface SweepOptions {
  /** [{@link GRACE_MINUTES}] */
  olderThanMinutes?: number;
  /** Says that what is stored belongs to this installation, whoever's it was. */
  adopt?: boolean;
  signal?: AbortSignal;
}

export interface Sweep {
  /** Files of documents that there were. */
  checked: number;
  /** Of these, how many belonged to nobody and are gone, and how large they were together. */
  deleted: number;
  bytes: number;
  /** Originals that documents refer to, and that are not there. */
  missing: number;
}

/** Finds out what is stored that no row knows of, as a crash between the two leaves it, and the other way round. */
@Injectable()
export class StorageSweepService implements OnModuleInit {
  private readonly logger = new Logger(StorageSweepService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly platformDatabase: PlatformDatabase,
    private readonly tenantDatabase: TenantDatabase,
    private readonly repository: StorageSweepRepository,
    private readonly storage: FileStorage,
    private readonly jobs: BackgroundJobs,
    private readonly audit: AuditService,
    @Inject(INSTALLATION) private readonly installation: string,
  ) {}

  onModuleInit(): void {
    this.jobs.define({
      kind: SWEEP_JOB,
      mostAttempts: MOST_ATTEMPTS,
      every: DAY_S,
      run: job => this.sweep({ signal: job.signal }),
    });
  }

  /** @returns the job that does it */
  request(): Promise<string> {
    return this.platformDatabase.run(async tx => {
      const job = { kind: SWEEP_JOB, payload: null, tenantId: null, permission: 'platform:tenants' } as const;
      const id = await this.jobs.enqueue(tx, job);
      this.audit.record(tx, {
        action: 'storage.sweep_requested',
        resource: { type: 'job', id },
        details: {},
      });
      return id;
    });
  }

  /**
   * Deletes what is stored and belongs to nobody. May run beside everything else, and several times at once.
   *
   * @throws JobError `foreign_storage` where the files belong to another installation, which this one knows nothing of
   */
  async sweep({
    olderThanMinutes = GRACE_MINUTES,
    adopt = false,
    signal,
  }: SweepOptions = {}): Promise<Sweep> {
    await this.requireOwn(adopt);
    await this.storage.removeLeftovers();
    const started = new Date();
    const youngest = new Date(started.getTime() - olderThanMinutes * 60_000);
    const sweep: Sweep = { checked: 0, deleted: 0, bytes: 0, missing: 0 };
    /** Of each tenant, how many originals were found that were there before. */
    const found = new Map<string, number>();
    for await (const files of this.files()) {
      signal?.throwIfAborted();
      const orphans = await this.orphansAmong(files, started, found);
      const old = orphans.filter(file => file.modifiedAt <= youngest);
      await inTurns(old, file => this.storage.delete(file.key));
      sweep.checked += files.length;
      sweep.deleted += old.length;
      sweep.bytes += old.reduce((sum, file) => sum + file.sizeBytes, 0);
    }
    for await (const tenant of this.everyTenant()) {
      signal?.throwIfAborted();
      sweep.missing += await this.context.runAsSystem(tenant, () =>
        this.countMissing(tenant, started, found.get(tenant.id) ?? 0, sweep.missing),
      );
    }
    this.logger.log({ msg: 'Storage swept', ...sweep });
    return sweep;
  }

  /** A database that is new, or a copy, must not take the files of another one for nobody's. */
  private async requireOwn(adopt: boolean): Promise<void> {
    const owner = await this.storage.read(OWNER_KEY).catch((error: unknown) => {
      if (error instanceof FileMissingError) return null;
      throw error;
    });
    if (owner !== null && String(owner) === this.installation) return;
    if (owner !== null && !adopt) {
      throw new JobError(
        'foreign_storage',
        'The files in the storage belong to another database. Where that is gone for good, take them over with: ' +
          'npm run cli -- storage sweep --adopt',
      );
    }
    const file = await this.storage.receive(Readable.from([Buffer.from(this.installation)]));
    await file.keep(OWNER_KEY);
  }

  /** Whatever looks like an original, many at a time. */
  private async *files(): AsyncGenerator<StoredFile[]> {
    let files: StoredFile[] = [];
    for await (const file of this.storage.list('')) {
      if (!KEY.test(file.key)) continue;
      files.push(file);
      if (files.length < FILES_AT_ONCE) continue;
      yield files;
      files = [];
    }
    if (files.length > 0) yield files;
  }

  /** Asked after they were listed: a row that comes later has a file that is young. */
  private async orphansAmong(
    files: StoredFile[],
    started: Date,
    found: Map<string, number>,
  ): Promise<StoredFile[]> {
    const byTenant = new Map<string, string[]>();
    for (const { key } of files) {
      const tenantId = key.slice(0, key.indexOf('/'));
      const keys = byTenant.get(tenantId);
      if (keys) keys.push(key);
      else byTenant.set(tenantId, [key]);
    }
    const tenants = await this.platformDatabase.run(tx => this.repository.tenants(tx, [...byTenant.keys()]));
    const known = new Set<string>();
    for (const tenant of tenants) {
      const referenced = await this.context.runAsSystem(tenant, () =>
        this.tenantDatabase.run(tx =>
          this.repository.referenced(tx, byTenant.get(tenant.id) as string[], started),
        ),
      );
      for (const { key } of referenced) known.add(key);
      const before = referenced.filter(original => original.before).length;
      found.set(tenant.id, (found.get(tenant.id) ?? 0) + before);
    }
    return files.filter(({ key }) => !known.has(key));
  }

  /** Looks for each original only where fewer files were found than there should be. */
  private async countMissing(
    tenant: TenantName,
    started: Date,
    found: number,
    before: number,
  ): Promise<number> {
    const run = this.tenantDatabase.run.bind(this.tenantDatabase);
    if ((await run(tx => this.repository.count(tx, started))) <= found) return 0;
    let missing = 0;
    for (const kbId of await run(tx => this.repository.knowledgeBases(tx))) {
      for (let after: StoredOriginal | null = null; ;) {
        const page: StoredOriginal[] = await run(tx =>
          this.repository.originalsAfter(tx, kbId, after, FILES_AT_ONCE),
        );
        for (const { documentId, version } of await this.lostAmong(page, started)) {
          if (before + ++missing > MOST_NAMED) continue;
          const msg = 'The original of a document is missing';
          this.logger.error({ msg, tenant: tenant.name, document_id: documentId, version });
        }
        after = page.at(-1) ?? null;
        if (after === null) break;
      }
    }
    return missing;
  }

  private async lostAmong(originals: StoredOriginal[], started: Date): Promise<StoredOriginal[]> {
    const absent: StoredOriginal[] = [];
    await inTurns(originals, async original => {
      if (!(await this.storage.has(original.key))) absent.push(original);
    });
    if (absent.length === 0) return [];
    // A document that was deleted meanwhile has lost nothing.
    const rows = await this.tenantDatabase.run(tx =>
      this.repository.referenced(
        tx,
        absent.map(({ key }) => key),
        started,
      ),
    );
    const still = new Set(rows.map(({ key }) => key));
    return absent.filter(({ key }) => still.has(key));
  }

  private async *everyTenant(): AsyncGenerator<TenantName> {
    for (let after: string | null = null; ;) {
      const page: TenantName[] = await this.platformDatabase.run(tx =>
        this.repository.tenantsAfter(tx, after, TENANTS_AT_ONCE),
      );
      yield* page;
      after = page.at(-1)?.id ?? null;
      if (after === null) return;
    }
  }
}

/** Does `work` for each, some at a time. */
async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items[Symbol.iterator]();
  await Promise.all(
    Array.from({ length: REQUESTS_AT_ONCE }, async () => {
      for (const item of left) await work(item);
    }),
  );
}
