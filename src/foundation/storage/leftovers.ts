import { opendir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** After so long, whoever has put something there and did not take it away is dead. */
export const LEFTOVER_AFTER_MS = 24 * 3_600_000;

/** Removes what lies in a folder and was not changed for a day. */
export async function removeOld(folder: string): Promise<void> {
  const entries = await opendir(folder).catch(() => null);
  if (!entries) return;
  for await (const entry of entries) {
    const path = join(folder, entry.name);
    // Another process may clean at the same time.
    const found = await stat(path).catch(() => null);
    if (found && found.mtimeMs < Date.now() - LEFTOVER_AFTER_MS)
      await rm(path, { recursive: true, force: true });
  }
}
