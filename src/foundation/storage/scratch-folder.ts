import type { OnModuleInit } from '@nestjs/common';
import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { removeOld } from './leftovers.js';

/** Where files lie on this machine while they are read, each reader's in a folder of its own. */
export class ScratchFolder implements OnModuleInit {
  readonly path: string;

  /** @param dataDir absolute path; the folder is `scratch` in it */
  constructor(dataDir: string) {
    this.path = join(dataDir, 'scratch');
  }

  /** Makes an empty folder, for whoever removes it. */
  async make(): Promise<string> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    return mkdtemp(join(this.path, 'reading-'));
  }

  /** At the start: what has not changed for a day belongs to nobody who lives. */
  async onModuleInit(): Promise<void> {
    // What cannot be removed is in nobody's way.
    await removeOld(this.path).catch(() => undefined);
  }
}
