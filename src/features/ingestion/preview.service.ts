import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { type EffectiveConfig, effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import type { Chunk } from '../../foundation/extraction/chunk-splitter.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import { DocumentLoader } from '../../foundation/extraction/document-loader.js';
import type { LoadRequest, LoadSummary } from '../../foundation/extraction/document-parts.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileDamagedError, FileMissingError, FileStorage } from '../../foundation/storage/file-storage.js';
import { ScratchFolder } from '../../foundation/storage/scratch-folder.js';
import { DocumentContentService } from '../documents/document-content.service.js';
import type { IncomingFile } from '../documents/document-sources.service.js';
import { DocumentsService } from '../documents/documents.service.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';

const MOST_CHUNKS = 100;
/** Files that one process reads at a time for those who wait, and how many more may wait. */
const AT_ONCE = 2;
const MOST_WAITING = 6;
const MOST_OF_TENANT = 2;
/** Whoever asks is waiting, in milliseconds. */
const LONGEST_MS = 30_000;

export type SplitSettings = Pick<EffectiveConfig, 'chunk_size' | 'chunk_overlap' | 'chunk_unit'>;

export interface Preview {
  summary: LoadSummary;
  /** The first of them. */
  chunks: Chunk[];
  chunkCount: number;
  tokenCount: number;
  config: SplitSettings;
}

type Source = Pick<LoadRequest, 'path' | 'fileName' | 'declaredMimeType' | 'readable'>;

/**
 * What would become of a document with certain settings: read and split by the parsers of this process, as its ingestion
 * would, and thrown away. Threads of its own, since those of the ingestion may be busy for hours.
 */
@Injectable()
export class PreviewService implements OnApplicationShutdown {
  private readonly loader: DocumentLoader;
  private running = 0;
  private readonly byTenant = new Map<string, number>();

  constructor(
    @InjectEnv() env: Env,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly documents: DocumentsService,
    private readonly contents: DocumentContentService,
    private readonly storage: FileStorage,
    private readonly scratch: ScratchFolder,
  ) {
    const { timeLimit, heapMb } = env.parsing;
    this.loader = new DocumentLoader({
      threads: AT_ONCE,
      timeLimit: Math.min(timeLimit, LONGEST_MS),
      heapLimit: heapMb,
      scratchFolder: scratch.path,
    });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.loader.close();
  }

  /** @throws Problem 404 */
  knowledgeBase(reference: string): Promise<KnowledgeBase> {
    return this.knowledgeBases.get(reference);
  }

  /** @throws Problem 413 `too_large`, 415, 422, 429 `concurrency_limited` */
  ofFile(
    kb: KnowledgeBase,
    file: IncomingFile,
    settings: Partial<SplitSettings>,
    signal: AbortSignal,
  ): Promise<Preview> {
    const { fileName, declaredMimeType } = file;
    // Whoever sends slowly keeps nobody waiting.
    return this.onDisk(file.content, path => {
      const tooLarge = file.tooLarge();
      if (tooLarge) throw tooLarge;
      const source = {
        path,
        fileName: fileName ?? undefined,
        declaredMimeType: declaredMimeType ?? undefined,
      };
      return this.inTurn(() => this.read(kb, source, settings, signal));
    });
  }

  /** @param text Markdown, or plain. @throws Problem 422, 429 `concurrency_limited` */
  ofText(
    kb: KnowledgeBase,
    text: string,
    settings: Partial<SplitSettings>,
    signal: AbortSignal,
  ): Promise<Preview> {
    return this.inTurn(() =>
      this.onDisk(Readable.from([Buffer.from(text, 'utf8')]), path =>
        this.read(kb, { path, declaredMimeType: 'text/markdown' }, settings, signal),
      ),
    );
  }

  /** @throws Problem 404 where there is none that may be read, 422, 429 `concurrency_limited` */
  async ofDocument(
    kb: KnowledgeBase,
    documentId: string,
    settings: Partial<SplitSettings>,
    signal: AbortSignal,
  ): Promise<Preview> {
    const { subject, tenant } = this.context;
    if (!(await this.authorization.canInKb(subject, tenant.id, kb.id, 'document:read')))
      throw Problem.notFound('document');
    const document = await this.documents.get(kb.id, documentId);
    const { storageKey, contentSha256, fileName, mimeType } = await this.contents.find(
      kb.id,
      documentId,
      undefined,
    );
    return this.inTurn(async () => {
      const copy = await this.storage.localCopy(storageKey, contentSha256).catch((error: unknown) => {
        const lost = error instanceof FileMissingError || error instanceof FileDamagedError;
        throw lost ? Problem.notFound('content') : error;
      });
      try {
        const source = {
          path: copy.path,
          fileName: fileName ?? undefined,
          declaredMimeType: mimeType,
          readable: document.source === 'url',
        };
        return await this.read(kb, source, settings, signal);
      } finally {
        await copy.release();
      }
    });
  }

  private async read(
    kb: KnowledgeBase,
    source: Source,
    settings: Partial<SplitSettings>,
    signal: AbortSignal,
  ): Promise<Preview> {
    const tenant = await this.directory.find(this.context.tenant.id);
    const { chunk_size, chunk_overlap, chunk_unit } = effectiveConfig(
      tenant?.config ?? {},
      kb.config,
      settings,
    );
    const split = { chunkSize: chunk_size, chunkOverlap: chunk_overlap, chunkUnit: chunk_unit };
    const chunks: Chunk[] = [];
    let chunkCount = 0;
    let tokenCount = 0;
    try {
      const loading = this.loader.load({ ...source, split, signal });
      for (;;) {
        const step = await loading.next();
        if (step.done) {
          const config = { chunk_size, chunk_overlap, chunk_unit };
          return { summary: step.value, chunks, chunkCount, tokenCount, config };
        }
        chunks.push(...step.value.slice(0, MOST_CHUNKS - chunks.length));
        chunkCount += step.value.length;
        for (const chunk of step.value) tokenCount += chunk.tokenCount;
      }
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      throw new Problem(error.code === 'unsupported_type' ? 415 : 422, error.code, error.message);
    }
  }

  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    const { id } = this.context.tenant;
    const ofTenant = this.byTenant.get(id) ?? 0;
    if (this.running >= AT_ONCE + MOST_WAITING || ofTenant >= MOST_OF_TENANT) {
      throw new Problem(
        429,
        'concurrency_limited',
        'Too many previews are being made at present. Try again in a moment.',
        { headers: { 'retry-after': '5' } },
      );
    }
    this.running++;
    this.byTenant.set(id, ofTenant + 1);
    try {
      return await work();
    } finally {
      this.running--;
      const left = (this.byTenant.get(id) ?? 1) - 1;
      if (left > 0) this.byTenant.set(id, left);
      else this.byTenant.delete(id);
    }
  }

  /** Parsers take files. This one is gone when `work` has ended. */
  private async onDisk<T>(content: AsyncIterable<Buffer>, work: (path: string) => Promise<T>): Promise<T> {
    const folder = await this.scratch.make();
    try {
      const path = join(folder, 'content');
      await pipeline(content, createWriteStream(path, { mode: 0o600 }));
      return await work(path);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}
