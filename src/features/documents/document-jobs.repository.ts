import { Injectable } from '@nestjs/common';
import { In } from 'typeorm';
import type { JobChildren } from '../../core/jobs/background-jobs.service.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Document } from './document.entity.js';

/** Ingestions as jobs: where they are across tenants, and what they are within one. */
@Injectable()
export class DocumentJobsRepository {
  /** Whose document it is. In a transaction of the platform. */
  async locate(tx: Tx, id: string): Promise<{ tenantId: string; kbId: string } | null> {
    const rows: Array<{ tenantId: string; kbId: string }> = await tx.query(
      `SELECT tenant_id AS "tenantId", kb_id AS "kbId" FROM documents WHERE id = $1`,
      [id],
    );
    return rows[0] ?? null;
  }

  /** In a transaction of its tenant. */
  find(tx: Tx, id: string): Promise<Document | null> {
    return tx.getRepository(Document).findOneBy({ id });
  }

  /** In a transaction of their tenant. */
  list(tx: Tx, ids: readonly string[]): Promise<Document[]> {
    return tx.getRepository(Document).findBy({ id: In([...ids]) });
  }

  /** Of those that are there, something that becomes another whenever they change. In a transaction of the platform. */
  listChanges(tx: Tx, ids: readonly string[]): Promise<Array<{ id: string; mark: string }>> {
    return tx.query(
      `SELECT id, status || ' ' || updated_at::text AS mark FROM documents WHERE id = ANY ($1::uuid[])`,
      [ids],
    );
  }

  /** Of each job, how many of the documents that it has brought in stand where. In a transaction of the platform. */
  async countByJob(tx: Tx, jobIds: readonly string[]): Promise<Map<string, JobChildren>> {
    const rows: Array<JobChildren & { jobId: string }> = await tx.query(
      `SELECT job_id AS "jobId", count(*)::integer AS total,
              (count(*) FILTER (WHERE status = 'queued'))::integer AS queued,
              (count(*) FILTER (WHERE status = 'processing'))::integer AS processing,
              (count(*) FILTER (WHERE status = 'ready'))::integer AS ready,
              (count(*) FILTER (WHERE status = 'failed'))::integer AS failed,
              (count(*) FILTER (WHERE status IN ('cancelled', 'deleting')))::integer AS cancelled
       FROM documents WHERE job_id = ANY ($1::uuid[]) GROUP BY job_id`,
      [jobIds],
    );
    return new Map(rows.map(({ jobId, ...children }) => [jobId, children]));
  }
}
