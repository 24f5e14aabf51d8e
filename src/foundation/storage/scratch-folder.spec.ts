import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ScratchFolder } from './scratch-folder.js';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'enclave-storage-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

it('gives everybody a folder of their own, and removes at the start what is older than a day', async () => {
  const scratch = new ScratchFolder(dataDir);
  await scratch.onModuleInit();
  const [old, young] = [await scratch.make(), await scratch.make()];
  expect(old).not.toBe(young);
  expect(statSync(scratch.path).mode & 0o777).toBe(0o700);
  writeFileSync(join(old, 'text'), 'left');
  const yesterday = new Date(Date.now() - 25 * 3_600_000);
  utimesSync(old, yesterday, yesterday);
  await scratch.onModuleInit();
  expect(existsSync(old)).toBe(false);
  expect(readdirSync(scratch.path).map(name => join(scratch.path, name))).toEqual([young]);
});
