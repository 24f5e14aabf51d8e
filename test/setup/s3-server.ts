import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import S3rver from 's3rver';
import type { S3Settings } from '../../src/foundation/config/env.js';

export interface S3Server {
  settings: S3Settings;
  /** The same as variables of the environment. */
  env: Record<string, string>;
  /** Where an object of the bucket lies. */
  fileOf(key: string): string;
  /** Makes another object like one that is there. */
  copy(from: string, to: string): void;
  /** Until it is started again, nothing answers. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

const BUCKET = 'originals';
const KEY = 'S3RVER';

/** The server hides where a list goes on with DES, which the OpenSSL of today does not have: it stays readable. */
function doWithoutDes(): void {
  const crypto = createRequire(import.meta.url)('crypto');
  const readable = { update: (data: string | Buffer) => Buffer.from(data), final: () => Buffer.alloc(0) };
  for (const name of ['createCipheriv', 'createDecipheriv']) {
    const original = crypto[name];
    crypto[name] = (algorithm: string, ...rest: unknown[]) =>
      algorithm === 'des' ? readable : original(algorithm, ...rest);
  }
}
doWithoutDes();

/** An S3-compatible server of its own, with one bucket. */
export async function startS3Server(): Promise<S3Server> {
  const directory = mkdtempSync(join(tmpdir(), 'enclave-s3-'));
  const start = async (port: number) => {
    const server = new S3rver({
      address: '127.0.0.1',
      port,
      silent: true,
      directory,
      configureBuckets: [{ name: BUCKET, configs: [] }],
    });
    return { server, port: (await server.run()).port };
  };
  const fileOf = (key: string, part: string) => join(directory, BUCKET, `${key}._S3rver_${part}`);
  let running = await start(0);
  const endpoint = `http://127.0.0.1:${running.port}`;
  return {
    settings: {
      endpoint,
      region: 'us-east-1',
      bucket: BUCKET,
      credentials: { accessKeyId: KEY, secretAccessKey: KEY },
      forcePathStyle: true,
    },
    env: { S3_BUCKET: BUCKET, S3_ENDPOINT: endpoint, S3_ACCESS_KEY_ID: KEY, S3_SECRET_ACCESS_KEY: KEY },
    fileOf: key => fileOf(key, 'object'),
    copy(from, to) {
      for (const part of ['object', 'object.md5', 'metadata.json'])
        cpSync(fileOf(from, part), fileOf(to, part));
    },
    stop: () => running.server.close(),
    async start() {
      running = await start(running.port);
    },
    async close() {
      await running.server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
