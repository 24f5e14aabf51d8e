import { z } from 'zod';
import { JOB_STATUSES, type Job } from './jobs.repository.js';

export const jobSchema = z
  .object({
    id: z.uuid(),
    tenant_id: z.uuid().nullable(),
    kind: z.string().meta({ example: 'member-import' }),
    status: z.enum(JOB_STATUSES),
    progress: z.number().describe('0 to 1'),
    stage: z.string().nullable(),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    children: z
      .object({
        total: z.int(),
        queued: z.int(),
        processing: z.int(),
        ready: z.int(),
        failed: z.int(),
        cancelled: z.int(),
      })
      .optional()
      .describe('Where what it has put to work stands: the job is running until all of it has ended'),
    result: z.json().nullable().describe('What came of it; depends on the kind of job'),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    finished_at: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Job' });

export function toJob(job: Job): z.infer<typeof jobSchema> {
  return {
    id: job.id,
    tenant_id: job.tenantId,
    kind: job.kind,
    status: job.status,
    progress: Math.round(job.progress * 1000) / 1000,
    stage: job.stage,
    error:
      job.errorCode && job.status !== 'succeeded'
        ? { code: job.errorCode, message: job.errorMessage ?? '' }
        : null,
    ...(job.children && { children: job.children }),
    result: job.result as z.infer<typeof jobSchema>['result'],
    created_by: job.createdBy,
    created_at: job.createdAt.toISOString(),
    updated_at: job.updatedAt.toISOString(),
    finished_at: job.finishedAt?.toISOString() ?? null,
  };
}
