import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  type ListObjectsV2CommandOutput,
  type MultipartUpload,
  paginateListObjectsV2,
  S3Client,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import type { OnApplicationShutdown } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { S3Settings } from '../config/env.js';
import {
  type ByteRange,
  FileDamagedError,
  FileMissingError,
  FileStorage,
  type LocalFile,
  type ReceivedFile,
  type StoredFile,
} from './file-storage.js';
import { IncomingFolder } from './incoming-folder.js';
import { LEFTOVER_AFTER_MS } from './leftovers.js';
import { StorageUnavailableError } from './storage-unavailable.js';

/** Bytes; a file takes up twice as much memory while it is uploaded. 10,000 parts are the most that S3 takes. */
const PART_BYTES = 8 * 1024 * 1024;
const PARTS_AT_ONCE = 2;
const READ_BYTES = 1024 * 1024;
/** Of one request, with those that repeat it. */
const ATTEMPTS = 3;
const CONNECT_TIMEOUT_MS = 5_000;
/** Until the answer begins, with the sending of a part. */
const REQUEST_TIMEOUT_MS = 60_000;
/** While nothing at all arrives. */
const IDLE_TIMEOUT_MS = 60_000;
const HEALTH_TIMEOUT_MS = 3_000;
/** Downloads hold a connection for as long as whoever reads them takes. */
const MOST_CONNECTIONS = 500;
/** As originals are called: tenant, knowledge base, SHA-256 and a number. */
const OWN_KEY = /^[\da-f-]{36}\/[\da-f-]{36}\/[\da-f]{64}-[\da-f-]{36}$/;

/** Files in a bucket of Amazon S3 or of a server that speaks like it. */
export class S3Storage extends FileStorage implements OnApplicationShutdown {
  private readonly client: S3Client;
  private readonly bucket: string;
  private readonly incoming: IncomingFolder;

  /** @param dataDir where files lie on their way in, and those that are read from a path */
  constructor(dataDir: string, settings: S3Settings) {
    super();
    this.bucket = settings.bucket;
    this.incoming = new IncomingFolder(join(dataDir, 'incoming'));
    const agent = { keepAlive: true, maxSockets: MOST_CONNECTIONS };
    this.client = new S3Client({
      region: settings.region,
      forcePathStyle: settings.forcePathStyle,
      ...(settings.endpoint && { endpoint: settings.endpoint }),
      ...(settings.credentials && { credentials: settings.credentials }),
      maxAttempts: ATTEMPTS,
      // What Amazon alone understands: checksums in trailers, and an answer before the body is sent.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      expectContinueHeader: false,
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        throwOnRequestTimeout: true,
        socketTimeout: IDLE_TIMEOUT_MS,
        httpAgent: agent,
        httpsAgent: agent,
      },
    });
    sendMd5(this.client);
  }

  async receive(content: AsyncIterable<Buffer>): Promise<ReceivedFile> {
    const { path, ...file } = await this.incoming.take(content, false);
    return {
      ...file,
      keep: async key => {
        const body = createReadStream(path, { highWaterMark: READ_BYTES });
        const upload = new Upload({
          client: this.client,
          partSize: PART_BYTES,
          queueSize: PARTS_AT_ONCE,
          params: { ...this.at(key), Body: body, Metadata: { sha256: file.sha256 } },
        });
        try {
          await upload.done();
        } catch (error) {
          this.refuse(error);
        } finally {
          body.destroy();
          await file.discard();
        }
      },
    };
  }

  async read(key: string): Promise<Buffer> {
    return buffer(await this.open(key)).catch((error: unknown) => this.refuse(error));
  }

  async open(key: string, range?: ByteRange): Promise<Readable> {
    const Range = range && `bytes=${range.start}-${range.end}`;
    try {
      const { Body } = await this.client.send(new GetObjectCommand({ ...this.at(key), Range }));
      return Body as Readable;
    } catch (error) {
      // It is shorter than whoever asks for the range believes.
      if ((error as Error).name === 'InvalidRange')
        throw new FileDamagedError(`The file ${key} is too short.`);
      return this.refuse(error, key);
    }
  }

  async localCopy(key: string, sha256: string): Promise<LocalFile> {
    const content = await this.open(key);
    const copy = await this.incoming.take(content, false).catch((error: unknown) => this.refuse(error));
    if (copy.sha256 !== sha256) {
      await copy.discard();
      throw new FileDamagedError(`The file ${key} has changed since it was stored.`);
    }
    return { path: copy.path, sizeBytes: copy.sizeBytes, release: () => copy.discard() };
  }

  async has(key: string): Promise<boolean> {
    try {
      await this.client.send(new HeadObjectCommand(this.at(key)));
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      return this.refuse(error);
    }
  }

  async *list(prefix: string): AsyncIterable<StoredFile> {
    for await (const { Contents = [] } of this.pages(prefix)) {
      for (const { Key, Size = 0, LastModified } of Contents)
        if (Key && LastModified) yield { key: Key, sizeBytes: Size, modifiedAt: LastModified };
    }
  }

  async delete(key: string): Promise<void> {
    await this.client
      .send(new DeleteObjectCommand(this.at(key)))
      .catch((error: unknown) => (isMissing(error) ? undefined : this.refuse(error)));
  }

  async deleteAll(prefix: string): Promise<void> {
    if (prefix === '') throw new Error('Nobody deletes everything.');
    // A page is as large as the most that one request deletes.
    for await (const { Contents = [] } of this.pages(prefix)) {
      if (Contents.length === 0) continue;
      const Delete = { Objects: Contents.map(({ Key }) => ({ Key })), Quiet: true };
      const { Errors = [] } = await this.client
        .send(new DeleteObjectsCommand({ Bucket: this.bucket, Delete }))
        .catch((error: unknown) => this.refuse(error));
      if (Errors[0]) this.refuse({ name: Errors[0].Code });
    }
  }

  async removeLeftovers(): Promise<void> {
    await this.incoming.removeLeftovers();
    try {
      for await (const { Key, UploadId } of this.oldUploads()) {
        await this.client.send(new AbortMultipartUploadCommand({ Bucket: this.bucket, Key, UploadId }));
      }
    } catch (error) {
      // Not every server can, and not every key may. They cost their room, and nothing else.
      const { name } = error as Fault;
      if (name !== 'NotImplemented')
        this.logger.warn(`Parts of uploads that were broken off are left lying in ${this.bucket}: ${name}`);
    }
  }

  /** Uploads in parts that nobody has ended for a day; a bucket may hold those of others. */
  private async *oldUploads(): AsyncGenerator<MultipartUpload> {
    const youngest = Date.now() - LEFTOVER_AFTER_MS;
    let from: { KeyMarker?: string; UploadIdMarker?: string } = {};
    for (;;) {
      const page = await this.client.send(new ListMultipartUploadsCommand({ Bucket: this.bucket, ...from }));
      for (const upload of page.Uploads ?? []) {
        const old = upload.Initiated && upload.Initiated.getTime() < youngest;
        if (old && OWN_KEY.test(upload.Key ?? '')) yield upload;
      }
      if (!page.IsTruncated || page.NextKeyMarker === undefined) return;
      from = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
    }
  }

  async isHealthy(): Promise<boolean> {
    try {
      const abortSignal = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
      await this.client.send(new HeadBucketCommand({ Bucket: this.bucket }), { abortSignal });
      return true;
    } catch {
      return false;
    }
  }

  onApplicationShutdown(): void {
    this.client.destroy();
  }

  private async *pages(prefix: string): AsyncGenerator<ListObjectsV2CommandOutput> {
    const Prefix = prefix === '' ? undefined : `${prefix}/`;
    try {
      yield* paginateListObjectsV2({ client: this.client }, { Bucket: this.bucket, Prefix });
    } catch (error) {
      this.refuse(error);
    }
  }

  private at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: key };
  }

  /**
   * Of what the server says only the name: the rest may hold the key id and what was signed.
   *
   * @param key of what was asked for, where it may be missing
   * @throws StorageUnavailableError; FileMissingError
   */
  private refuse(error: unknown, key?: string): never {
    if (error instanceof StorageUnavailableError) throw error;
    if (key !== undefined && isMissing(error)) throw new FileMissingError(`There is no file ${key}.`);
    const { name, code, $metadata } = error as Fault;
    const what = [name, code, $metadata?.httpStatusCode].filter(part => part !== undefined).join(', ');
    this.logger.error(`The bucket ${this.bucket} does not do what it is asked for: ${what}`);
    throw new StorageUnavailableError();
  }
}

interface Fault {
  name?: string;
  code?: string;
  $metadata?: { httpStatusCode?: number };
}

function isMissing(error: unknown): boolean {
  const { name, $metadata } = error as Fault;
  return name === 'NoSuchKey' || ($metadata?.httpStatusCode === 404 && name !== 'NoSuchBucket');
}

/** Deleting many needs a checksum, of which many servers know this one alone. */
function sendMd5(client: S3Client): void {
  client.middlewareStack.add(
    (next, { commandName }) =>
      args => {
        const { headers, body } = args.request as { headers: Record<string, string>; body: unknown };
        if (commandName === 'DeleteObjectsCommand' && typeof body === 'string')
          headers['content-md5'] = createHash('md5').update(body).digest('base64');
        return next(args);
      },
    { step: 'build', name: 'sendMd5' },
  );
}
