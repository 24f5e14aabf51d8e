import type { Job, JobChildren } from './jobs.repository.js';

/** Whether nothing more happens to the job by itself. */
export const hasEnded = ({ status }: Pick<Job, 'status'>): boolean =>
  status !== 'queued' && status !== 'running';

/**
 * The job as it looks with its children: as long as its own run goes on, or one of them has not ended, it is running. What
 * failed or was cancelled before it could make them all stays so.
 */
export function withChildren(job: Job, children: JobChildren): Job {
  const { total, queued, processing } = children;
  const share = total > 0 ? (total - queued - processing) / total : 1;
  if (job.status === 'queued' || job.status === 'failed' || job.status === 'cancelled') {
    return { ...job, children };
  }
  // While it makes them, its own progress says how many of them are there.
  if (job.status === 'running') return { ...job, children, progress: job.progress * share };
  if (queued + processing === 0) return { ...job, children };
  return { ...job, children, status: 'running', stage: 'children', progress: share, finishedAt: null };
}
