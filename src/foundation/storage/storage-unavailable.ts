import { Logger } from '@nestjs/common';
import { Problem } from '../http/problem.js';

const FULL = new Set(['ENOSPC', 'EDQUOT']);

/** The storage cannot do this at present: the disk is full, the bucket does not answer. Another time it may. */
export class StorageUnavailableError extends Problem {
  constructor(full = false) {
    const [code, detail, delay] = full
      ? ['storage_full', 'There is no room for files at present. Try again later.', 60]
      : ['storage_unavailable', 'The storage of files does not answer. Try again in a moment.', 5];
    super(503, code, detail, { headers: { 'retry-after': String(delay) } });
  }
}

const logger = new Logger('storage');

/**
 * Says in the log what is wrong with the storage, and to everybody else only that something is.
 *
 * @throws StorageUnavailableError always
 */
export function refuse(error: unknown): never {
  if (error instanceof StorageUnavailableError) throw error;
  logger.error(error);
  throw new StorageUnavailableError(FULL.has((error as NodeJS.ErrnoException).code ?? ''));
}
