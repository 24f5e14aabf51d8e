import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Env } from '../config/env.js';

/** What the installation signs and seals with. */
export interface Secrets {
  jwtSecret: string;
  encryptionKey: string;
}

/**
 * The secrets of the settings; outside production, those missing are made once and kept in the data folder, so that
 * every process on it has the same.
 */
export function loadSecrets(env: Env): Secrets {
  return {
    jwtSecret: env.jwtSecret ?? generatedSecret(env.dataDir, 'jwt-secret'),
    encryptionKey: env.encryptionKey ?? generatedSecret(env.dataDir, 'encryption-key'),
  };
}

function generatedSecret(dataDir: string, name: string): string {
  const folder = join(dataDir, 'secrets');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, name);
  try {
    writeFileSync(path, randomBytes(32).toString('hex'), { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(path, 'utf8').trim();
}
