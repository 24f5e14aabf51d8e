import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseEnv } from '../config/env.js';
import { hashSecret, randomSecret, secretMatches } from './opaque-token.js';
import { loadSecrets } from './secrets.js';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'enclave-secrets-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const load = (settings: Record<string, string> = {}) =>
  loadSecrets(parseEnv({ DATA_DIR: dataDir, ...settings }));

describe('loadSecrets', () => {
  it('makes secrets once, of 256 bits, each its own', () => {
    const secrets = load();
    expect(secrets.jwtSecret).toMatch(/^[0-9a-f]{64}$/);
    expect(secrets.encryptionKey).toMatch(/^[0-9a-f]{64}$/);
    expect(secrets.jwtSecret).not.toBe(secrets.encryptionKey);
    expect(load()).toEqual(secrets);
  });

  it('keeps them from everybody else on the machine', () => {
    load();
    const folder = join(dataDir, 'secrets');
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(readdirSync(folder)).toHaveLength(2);
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
  });

  it('takes those of the settings, and makes none beside them', () => {
    const [jwt, key] = ['j'.repeat(32), 'k'.repeat(32)];
    expect(load({ JWT_SECRET: jwt, ENCRYPTION_KEY: key })).toEqual({
      jwtSecret: jwt,
      encryptionKey: key,
      oldEncryptionKeys: [],
    });
    expect(readdirSync(dataDir)).toEqual([]);
  });

  it('refuses a file that a crash has left without a secret in it', () => {
    load();
    writeFileSync(join(dataDir, 'secrets', 'jwt-secret'), '');
    expect(() => load()).toThrow(/jwt-secret/);
  });
});

describe('opaque tokens', () => {
  it('are random, and match their own hash alone', () => {
    const [one, another] = [randomSecret(), randomSecret()];
    expect(one).toMatch(/^[\w-]{43}$/);
    expect(one).not.toBe(another);
    expect(secretMatches(one, hashSecret(one))).toBe(true);
    expect(secretMatches(another, hashSecret(one))).toBe(false);
  });
});
