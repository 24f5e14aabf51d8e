import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DataFolderInUseError, lockDataFolder } from './data-folder-lock.js';

let folder: string;
let socket: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'enclave-lock-'));
  socket = join(folder, 'lock.sock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('lockDataFolder', () => {
  it('refuses a second holder, with a sentence that names the folder and the way out', async () => {
    const release = await lockDataFolder(socket, folder);
    const second = lockDataFolder(socket, folder);
    await expect(second).rejects.toBeInstanceOf(DataFolderInUseError);
    await expect(second).rejects.toThrow(new RegExp(`${folder}.*DATA_DIR`));
    await release();
  });

  it('gives way once it has been released', async () => {
    await holdAndRelease();
    expect(readdirSync(folder)).toEqual([]);
    await holdAndRelease();
  });

  it('takes over from a process that was killed, and not while it lives', async () => {
    await holdAndDie(() =>
      expect(lockDataFolder(socket, folder)).rejects.toBeInstanceOf(DataFolderInUseError),
    );
    expect(existsSync(socket)).toBe(true);
    await holdAndRelease();
  });

  it.each(['fresh', 'left by a killed process'])(
    'has one winner among those that start at once: %s',
    async state => {
      if (state !== 'fresh') await holdAndDie();
      const attempts = await Promise.allSettled(
        Array.from({ length: 5 }, () => lockDataFolder(socket, folder)),
      );
      const won = attempts.filter(attempt => attempt.status === 'fulfilled');
      expect(won).toHaveLength(1);
      // Those who lost have not loosened the winner's hold.
      await expect(lockDataFolder(socket, folder)).rejects.toBeInstanceOf(DataFolderInUseError);
      await won[0]?.value();
    },
  );

  it('reports a folder that cannot be written as what it is', async () => {
    await expect(lockDataFolder(join(folder, 'missing', 'lock.sock'), folder)).rejects.toThrow(
      /ENOENT|EACCES/,
    );
  });
});

async function holdAndRelease(): Promise<void> {
  const release = await lockDataFolder(socket, folder);
  await release();
}

/** Another process that holds the folder, for as long as `meanwhile` takes, and is then killed. */
async function holdAndDie(meanwhile: () => Promise<void> = () => Promise.resolve()): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => console.log('held'))`;
  const holder = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  await meanwhile();
  holder.kill('SIGKILL');
  await once(holder, 'exit');
}
