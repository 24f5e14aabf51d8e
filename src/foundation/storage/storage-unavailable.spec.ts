import { Logger } from '@nestjs/common';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { refuse, StorageUnavailableError } from './storage-unavailable.js';

describe('a fault of the disk', () => {
  afterEach(() => vi.restoreAllMocks());

  it.each([
    ['ENOSPC', 'storage_full', '60'],
    ['EDQUOT', 'storage_full', '60'],
    ['EIO', 'storage_unavailable', '5'],
  ])('%s is a problem that passes, and no secret of ours', (code, expected, delay) => {
    const logged = vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const fault = Object.assign(new Error(`${code}: write '/secret/path'`), { code });
    const problem = { status: 503, code: expected, options: { headers: { 'retry-after': delay } } };
    expect(() => refuse(fault)).toThrow(expect.objectContaining(problem));
    expect(() => refuse(fault)).not.toThrow('secret');
    expect(logged).toHaveBeenCalledWith(fault);
  });

  it('is told once', () => {
    const logged = vi.spyOn(Logger.prototype, 'error').mockClear();
    expect(() => refuse(new StorageUnavailableError())).toThrow(StorageUnavailableError);
    expect(logged).not.toHaveBeenCalled();
  });
});
