import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Actor } from '../tenancy/tenant-context.js';

export const JOB_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;

/** How many of a job's children stand where: they are what it has put to work, and go on when its own run has ended. */
export interface JobChildren {
  total: number;
  queued: number;
  processing: number;
  ready: number;
  failed: number;
  cancelled: number;
}

/** A row of the table `jobs`, as anybody may see it who may see the job. */
export interface Job {
  id: string;
  tenantId: string | null;
  kind: string;
  permission: string | null;
  status: (typeof JOB_STATUSES)[number];
  stage: string | null;
  /** 0 to 1. */
  progress: number;
  result: unknown;
  errorCode: string | null;
  errorMessage: string | null;
  createdBy: string | null;
  /** Who asked for it. */
  actor: Actor;
  createdAt: Date;
  updatedAt: Date;
  finishedAt: Date | null;
  /** Of kinds that have any. */
  children?: JobChildren;
}

export interface SealedPayload {
  id: string;
  payload: Buffer;
}

/** A job that this process has to itself until its lease ends. */
export interface ClaimedJob {
  id: string;
  tenantId: string | null;
  kind: string;
  payload: Buffer;
  /** Those before this one. */
  attempts: number;
  actor: Actor;
}

/** How many jobs are worked on for one tenant at a time, by kind. */
export type PerTenant = Readonly<Record<string, number>>;

const COLUMNS = `id, tenant_id AS "tenantId", kind, permission, status, stage, progress, result,
  error_code AS "errorCode", error_message AS "errorMessage", created_by AS "createdBy", actor,
  created_at AS "createdAt", updated_at AS "updatedAt", finished_at AS "finishedAt"`;

/** Seconds after which a worker that has said nothing is taken for dead. */
const LEASE = `interval '30 seconds'`;
/** How many others of a job's kind are worked on for its tenant. */
const BUSY = `SELECT count(*) FROM jobs other
              WHERE other.tenant_id = jobs.tenant_id AND other.kind = jobs.kind AND other.id <> jobs.id
                AND other.status = 'running' AND other.lease_expires_at > now()`;
/** How long an ended job can still be looked at. */
const KEEP = `interval '7 days'`;

/** Jobs are put into the queue by tenants and the platform, and worked on by the platform. */
@Injectable()
export class JobsRepository {
  /** @param by who asked for all of them */
  async insert(
    tx: Tx,
    jobs: ReadonlyArray<{
      id: string;
      tenantId: string | null;
      kind: string;
      permission: string | null;
      payload: Buffer;
    }>,
    by: { actor: Actor; createdBy: string | null },
  ): Promise<void> {
    await tx.query(
      `INSERT INTO jobs (id, tenant_id, kind, permission, payload, actor, created_by)
       SELECT *, $6::jsonb, $7::uuid
       FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bytea[])`,
      [
        jobs.map(job => job.id),
        jobs.map(job => job.tenantId),
        jobs.map(job => job.kind),
        jobs.map(job => job.permission),
        jobs.map(job => job.payload),
        JSON.stringify(by.actor),
        by.createdBy,
      ],
    );
  }

  async find(tx: Tx, id: string): Promise<Job | null> {
    const rows: Job[] = await tx.query(`SELECT ${COLUMNS} FROM jobs WHERE id = $1`, [id]);
    return rows[0] ?? null;
  }

  /** Of those jobs that are there, something that becomes another whenever they change. */
  listChanges(tx: Tx, ids: readonly string[]): Promise<Array<{ id: string; kind: string; mark: string }>> {
    return tx.query(
      `SELECT id, kind, status || ' ' || updated_at::text AS mark FROM jobs WHERE id = ANY ($1::uuid[])`,
      [ids],
    );
  }

  /**
   * Ends a job, and takes it from its worker. One that has done its own part may have children left.
   *
   * @returns false where it had ended otherwise
   */
  async cancel(tx: Tx, id: string): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE jobs SET status = 'cancelled', stage = NULL, payload = NULL, error_code = NULL, error_message = NULL,
              lease_owner = NULL, lease_expires_at = NULL, finished_at = now(), updated_at = now()
       WHERE id = $1 AND status IN ('queued', 'running', 'succeeded') RETURNING id`,
      [id],
    );
    return rows.length === 1;
  }

  /**
   * @param options.takeOver whether to take it from its last worker without waiting for the lease to end
   * @param options.perTenant takes none while so many of its kind are worked on for its tenant, and none of another kind;
   *   null: no limit
   */
  async claim(
    tx: Tx,
    id: string,
    owner: string,
    { takeOver, perTenant }: { takeOver: boolean; perTenant: PerTenant | null },
  ): Promise<ClaimedJob | null> {
    // Several that count at the same moment would each find room for one more.
    if (perTenant !== null) {
      await tx.query(
        `SELECT pg_advisory_xact_lock(hashtextextended('jobs/' || kind || '/' || tenant_id, 0)) FROM jobs WHERE id = $1`,
        [id],
      );
    }
    const [rows]: [ClaimedJob[]] = await tx.query(
      `UPDATE jobs SET status = 'running', lease_owner = $2, lease_expires_at = now() + ${LEASE}, updated_at = now(),
              attempts = attempts + (status = 'running')::integer
       WHERE id = $1 AND run_after <= now() + interval '1 second'
         AND (status = 'queued' OR (status = 'running' AND ($3 OR lease_expires_at < now())))
         ${perTenant === null ? '' : `AND (${BUSY}) < ($4::jsonb->>kind)::integer`}
       RETURNING id, tenant_id AS "tenantId", kind, payload, attempts, actor`,
      [id, owner, takeOver, ...(perTenant === null ? [] : [JSON.stringify(perTenant)])],
    );
    return rows[0] ?? null;
  }

  /** @returns false where the job is no longer this worker's */
  heartbeat(tx: Tx, id: string, owner: string, stage: string | null, progress: number): Promise<boolean> {
    return this.changeOwn(tx, id, owner, `stage = $3, progress = $4, lease_expires_at = now() + ${LEASE}`, [
      stage,
      progress,
    ]);
  }

  succeed(tx: Tx, id: string, owner: string, result: unknown): Promise<boolean> {
    return this.changeOwn(
      tx,
      id,
      owner,
      `status = 'succeeded', stage = NULL, progress = 1, result = $3, payload = NULL, error_code = NULL,
       error_message = NULL, lease_owner = NULL, lease_expires_at = NULL, finished_at = now()`,
      [result === undefined ? null : JSON.stringify(result)],
    );
  }

  fail(tx: Tx, id: string, owner: string, code: string, message: string): Promise<boolean> {
    return this.changeOwn(
      tx,
      id,
      owner,
      `status = 'failed', attempts = attempts + 1, error_code = $3, error_message = $4, payload = NULL,
       lease_owner = NULL, lease_expires_at = NULL, finished_at = now()`,
      [code, message],
    );
  }

  /** @param delay seconds until the next attempt */
  retryLater(
    tx: Tx,
    id: string,
    owner: string,
    code: string,
    message: string,
    delay: number,
  ): Promise<boolean> {
    return this.changeOwn(
      tx,
      id,
      owner,
      `status = 'queued', attempts = attempts + 1, error_code = $3, error_message = $4,
       run_after = now() + make_interval(secs => $5), lease_owner = NULL, lease_expires_at = NULL`,
      [code, message, delay],
    );
  }

  /** Gives a job back, as a worker does that shuts down. */
  release(tx: Tx, id: string, owner: string): Promise<boolean> {
    return this.changeOwn(
      tx,
      id,
      owner,
      `status = 'queued', lease_owner = NULL, lease_expires_at = NULL`,
      [],
    );
  }

  /** Puts a job back that has done a part of its work: it stands in line again. @param delay seconds */
  pause(tx: Tx, id: string, owner: string, delay: number): Promise<boolean> {
    return this.changeOwn(
      tx,
      id,
      owner,
      `status = 'queued', attempts = 0, error_code = NULL, error_message = NULL,
       run_after = now() + make_interval(secs => $3), lease_owner = NULL, lease_expires_at = NULL`,
      [delay],
    );
  }

  /**
   * @param all those too that were called for just now, or whose worker has a lease
   * @param perTenant of these kinds no more than so many of a tenant: the others wait for those
   */
  listUnfinished(
    tx: Tx,
    all: boolean,
    limit: number,
    perTenant: PerTenant,
  ): Promise<Array<{ id: string; kind: string }>> {
    return tx.query(
      `SELECT id, kind
       FROM (SELECT id, kind, created_at, row_number() OVER (PARTITION BY tenant_id, kind ORDER BY run_after) AS place
             FROM jobs
             WHERE status IN ('queued', 'running')
               AND ($1 OR CASE status WHEN 'queued' THEN run_after < now() - interval '10 seconds'
                                      ELSE lease_expires_at < now() END)) AS waiting
       WHERE place <= coalesce(($3::jsonb->>kind)::integer, place)
       ORDER BY created_at LIMIT $2`,
      [all, limit, JSON.stringify(perTenant)],
    );
  }

  /** Of one kind and tenant, the next whose time has come. */
  async listWaiting(tx: Tx, tenantId: string, kind: string, limit: number): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      `SELECT id FROM jobs WHERE tenant_id = $1 AND kind = $2 AND status = 'queued' AND run_after <= now()
       ORDER BY run_after LIMIT $3`,
      [tenantId, kind, limit],
    );
    return rows.map(row => row.id);
  }

  /** Payloads of jobs that have not ended, page by page in the order of their ids. */
  payloadsAfter(tx: Tx, after: string | null, limit: number): Promise<SealedPayload[]> {
    return tx.query(
      `SELECT id, payload FROM jobs WHERE payload IS NOT NULL AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2`,
      [after, limit],
    );
  }

  /** Puts the same payload under another key, unless the job has ended since. */
  async reseal(tx: Tx, id: string, payload: Buffer, before: Buffer): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'UPDATE jobs SET payload = $2 WHERE id = $1 AND payload = $3',
      [id, payload, before],
    );
    return count === 1;
  }

  /**
   * Which of the recurring jobs are due; each is from here on due next after its interval, counted from now. One that has
   * not ended is not due.
   */
  async takeDue(tx: Tx, schedules: ReadonlyArray<{ kind: string; every: number }>): Promise<string[]> {
    const rows: Array<{ kind: string }> = await tx.query(
      `INSERT INTO job_schedules AS known (kind, next_at)
       SELECT kind, now() + make_interval(secs => every) FROM unnest($1::text[], $2::integer[]) AS s (kind, every)
       WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.kind = s.kind AND status IN ('queued', 'running'))
       ORDER BY kind
       ON CONFLICT (kind) DO UPDATE SET next_at = excluded.next_at WHERE known.next_at <= now()
       RETURNING kind`,
      [schedules.map(schedule => schedule.kind), schedules.map(schedule => schedule.every)],
    );
    return rows.map(row => row.kind);
  }

  /** @param briefKinds that leave many rows, which nobody looks at for long: what recurs, for instance */
  async deleteOld(tx: Tx, briefKinds: readonly string[]): Promise<void> {
    await tx.query(
      `DELETE FROM jobs WHERE finished_at < now() - ${KEEP}
         OR (finished_at < now() - interval '1 hour' AND kind = ANY ($1))`,
      [briefKinds],
    );
  }

  private async changeOwn(
    tx: Tx,
    id: string,
    owner: string,
    changes: string,
    parameters: unknown[],
  ): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE jobs SET ${changes}, updated_at = now()
       WHERE id = $1 AND lease_owner = $2 AND status = 'running' RETURNING id`,
      [id, owner, ...parameters],
    );
    return rows.length === 1;
  }
}
