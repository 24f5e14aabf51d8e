import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Env, SettingsError } from '../config/env.js';

/** What the installation signs and seals with. */
export interface Secrets {
  jwtSecret: string;
  encryptionKey: string;
  /** Keys of before, which still open what they sealed. */
  oldEncryptionKeys: string[];
}

/** Characters; as the settings demand. */
const SHORTEST_SECRET = 32;

/**
 * The secrets of the settings; outside production, those missing are made once and kept in the data folder, so that
 * every process on it has the same.
 *
 * @throws SettingsError where a kept secret is damaged
 */
export function loadSecrets(env: Env): Secrets {
  return {
    jwtSecret: env.jwtSecret ?? generatedSecret(env.dataDir, 'jwt-secret'),
    encryptionKey: env.encryptionKey ?? generatedSecret(env.dataDir, 'encryption-key'),
    oldEncryptionKeys: env.oldEncryptionKeys,
  };
}

/**
 * The key that the installation seals with, and nothing made: a command beside a running server looks for that server's.
 *
 * @returns null where the settings name none, and the data folder holds none
 * @throws SettingsError where a kept secret is damaged
 */
export function existingEncryptionKey(env: Env): string | null {
  if (env.encryptionKey !== null) return env.encryptionKey;
  const name = 'encryption-key';
  return existsSync(join(env.dataDir, 'secrets', name)) ? generatedSecret(env.dataDir, name) : null;
}

function generatedSecret(dataDir: string, name: string): string {
  const folder = join(dataDir, 'secrets');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, name);
  if (!existsSync(path)) writeOnce(path, randomBytes(32).toString('hex'));
  const secret = readFileSync(path, 'utf8').trim();
  if (secret.length < SHORTEST_SECRET) {
    throw new SettingsError(
      `The file ${path} must hold a secret of at least ${SHORTEST_SECRET} characters. Restore it, or delete it to have a new one made.`,
    );
  }
  return secret;
}

/** Whole or not at all: of several processes that start at once, none may read what another has half written. */
function writeOnce(path: string, content: string): void {
  const draft = `${path}.${randomUUID()}`;
  writeFileSync(draft, content, { flag: 'wx', mode: 0o600, flush: true });
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft);
  }
}
