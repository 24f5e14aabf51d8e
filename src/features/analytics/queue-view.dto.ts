import { z } from 'zod';
import type { Backlog } from './queue-view.repository.js';
import type { QueueView } from './queue-view.service.js';

const backlogFields = {
  waiting: z.int(),
  processing: z.int(),
  failed: z.int(),
  oldest_waiting_seconds: z.number().nullable().describe('Since its last change; null: nothing waits'),
};

export const queueViewSchema = z
  .object({
    mode: z.enum(['redis', 'in_process']).describe('Queues of all processes, or of this one alone'),
    queues: z.array(
      z.object({
        name: z.string().meta({ example: 'ingestion' }),
        answers: z.boolean().describe('Where false, its counts are not known'),
        waiting: z.int().nullable().describe('Calls to look for work; what the work is stands below'),
        active: z.int().nullable(),
        delayed: z.int().nullable(),
        workers: z.int().nullable().describe('Processes that work on it'),
        slots_per_worker: z.int().describe('What a process with the settings of this one works on at a time'),
      }),
    ),
    documents: z.object({
      ...backlogFields,
      tenants: z
        .array(z.object({ id: z.uuid(), name: z.string(), ...backlogFields }))
        .describe('The 50 with the most waiting'),
    }),
    jobs: z.array(z.object({ kind: z.string().meta({ example: 'send-email' }), ...backlogFields })),
  })
  .meta({ id: 'QueueView' });

const toBacklog = ({ waiting, processing, failed, oldestWaiting }: Backlog) => ({
  waiting,
  processing,
  failed,
  oldest_waiting_seconds: oldestWaiting === null ? null : Math.round(oldestWaiting * 10) / 10,
});

export function toQueueView({ mode, queues, documents, jobs }: QueueView): z.infer<typeof queueViewSchema> {
  return {
    mode,
    queues: queues.map(({ name, slotsPerWorker, counts }) => ({
      name,
      answers: counts !== null,
      waiting: counts?.waiting ?? null,
      active: counts?.active ?? null,
      delayed: counts?.delayed ?? null,
      workers: counts?.workers ?? null,
      slots_per_worker: slotsPerWorker,
    })),
    documents: {
      ...toBacklog(documents.all),
      tenants: documents.tenants.map(({ id, name, ...backlog }) => ({ id, name, ...toBacklog(backlog) })),
    },
    jobs: jobs.map(({ kind, ...backlog }) => ({ kind, ...toBacklog(backlog) })),
  };
}
