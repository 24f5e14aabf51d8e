import { expect, it } from 'vitest';
import { hasEnded, withChildren } from './job-children.js';
import type { Job, JobChildren } from './jobs.repository.js';

const job = (fields: Partial<Job>): Job => ({
  id: 'j',
  tenantId: 't',
  kind: 'import',
  permission: null,
  status: 'succeeded',
  stage: null,
  progress: 1,
  result: null,
  errorCode: null,
  errorMessage: null,
  createdBy: null,
  actor: { type: 'system', id: null, name: null, ip: null, requestId: null },
  createdAt: new Date(0),
  updatedAt: new Date(0),
  finishedAt: new Date(0),
  ...fields,
});
const children = (fields: Partial<JobChildren>): JobChildren => ({
  total: 0,
  queued: 0,
  processing: 0,
  ready: 0,
  failed: 0,
  cancelled: 0,
  ...fields,
});

it('goes on while children do', () => {
  const seen = withChildren(job({}), children({ total: 4, ready: 1, failed: 1, queued: 1, processing: 1 }));
  expect(seen).toMatchObject({ status: 'running', stage: 'children', progress: 0.5, finishedAt: null });
  expect(hasEnded(seen)).toBe(false);
});

it('has succeeded when all have ended, with what failed as a count', () => {
  const seen = withChildren(job({}), children({ total: 3, ready: 1, failed: 1, cancelled: 1 }));
  expect(seen).toMatchObject({ status: 'succeeded', progress: 1, children: { failed: 1, cancelled: 1 } });
  expect(hasEnded(seen)).toBe(true);
});

it('is as far as the children that it has made so far', () => {
  const running = job({ status: 'running', stage: 'sitemap', progress: 0.5 });
  const seen = withChildren(running, children({ total: 10, ready: 5, queued: 5 }));
  expect(seen).toMatchObject({ status: 'running', stage: 'sitemap', progress: 0.25 });
});

it.each(['failed', 'cancelled', 'queued'] as const)('stays %s whatever its children do', status => {
  const seen = withChildren(job({ status, progress: 0.2 }), children({ total: 2, processing: 2 }));
  expect(seen).toMatchObject({ status, progress: 0.2, children: { processing: 2 } });
});

it('has ended where it made none', () => {
  expect(withChildren(job({}), children({}))).toMatchObject({ status: 'succeeded', progress: 1 });
});
