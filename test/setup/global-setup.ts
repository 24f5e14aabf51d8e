import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { DIST, build } from '../../scripts/build.mjs';
import { prepareTemplate } from './database.js';

const MEMORY_FILES = '/dev/shm';
/** Far more than the databases of a run take, a few of which are open at a time. */
const ENOUGH_BYTES = 4 * 1024 ** 3;

export default async function setup({ config }: TestProject): Promise<() => void> {
  await prepareTemplate();
  if (!process.env['TEST_SKIP_BUILD']) {
    // For the tests that kill a process: it is the compiled one.
    await build();
    // While files are watched, the build is soon older than they are.
    if (!config.watch) process.env['TEST_COMPILED_SOURCE'] = join(DIST, 'src');
  }
  // One folder for the run: what a killed process leaves behind is gone with it.
  const folder = mkdtempSync(join(folderInMemory() ?? tmpdir(), 'enclave-tests-'));
  process.env['TEST_FOLDER'] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}

/** A database's template has more than a thousand files: a disk takes ten times as long to copy them. */
function folderInMemory(): string | null {
  try {
    const { bavail, bsize } = statfsSync(MEMORY_FILES);
    return bavail * bsize >= ENOUGH_BYTES ? MEMORY_FILES : null;
  } catch {
    return null;
  }
}
