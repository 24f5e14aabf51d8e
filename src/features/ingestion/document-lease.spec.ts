import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { DocumentLease } from './document-lease.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('gives signs of life, not while it rests, and again once it goes on', async () => {
  const heartbeat = vi.fn(async () => true);
  const database = {
    run: (work: (tx: Tx) => Promise<unknown>) => work({} as Tx),
  } as unknown as TenantDatabase;
  const lease = new DocumentLease(
    database,
    { heartbeat },
    'a document',
    'an owner',
    new AbortController().signal,
  );
  await vi.advanceTimersByTimeAsync(11_000);
  expect(heartbeat).toHaveBeenCalledTimes(2);
  await lease.rest();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(heartbeat).toHaveBeenCalledTimes(2);
  lease.resume();
  await vi.advanceTimersByTimeAsync(11_000);
  expect(heartbeat).toHaveBeenCalledTimes(4);
  lease.end();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(heartbeat).toHaveBeenCalledTimes(4);
});
