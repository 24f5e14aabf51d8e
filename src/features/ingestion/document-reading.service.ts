import { Injectable } from '@nestjs/common';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Chunk } from '../../foundation/extraction/chunk-splitter.js';
import { DocumentLoader } from '../../foundation/extraction/document-loader.js';
import type { LoadSummary, SplitOptions } from '../../foundation/extraction/document-parts.js';
import { FileMissingError, FileStorage } from '../../foundation/storage/file-storage.js';
import { DocumentVersionsRepository } from '../documents/document-versions.repository.js';
import { DocumentVersionsService } from '../documents/document-versions.service.js';
import type { SplitResult } from '../documents/staging.repository.js';
import { type DocumentLease, LeaseLostError } from './document-lease.js';
import type { ClaimedDocument, Original } from './ingestion.repository.js';
import { RemoteReaders } from './remote-readers.service.js';
import { WebPages } from './web-pages.service.js';

/** What is known of a document once all of it has been read; its chunks are counted by whoever takes them. */
export type ReadResult = Omit<SplitResult, 'chunkCount' | 'tokenCount'>;

export interface ReadOptions {
  split: SplitOptions;
  /** Of a web page, its main content alone. */
  readable: boolean;
  signal: AbortSignal;
}

/**
 * From an original, or the address of a web page, to chunks: by the parsers of this process, or by a service where one is
 * configured for its type.
 */
@Injectable()
export class DocumentReading {
  constructor(
    private readonly storage: FileStorage,
    private readonly loader: DocumentLoader,
    private readonly remote: RemoteReaders,
    private readonly pages: WebPages,
    private readonly database: TenantDatabase,
    private readonly versions: DocumentVersionsRepository,
    private readonly versionsService: DocumentVersionsService,
  ) {}

  /**
   * Fetches a web page that has not been fetched yet, and keeps it as the document's content.
   *
   * @returns null where it is what is searchable already
   * @throws WebFault, DocumentError, LeaseLostError; Problem 403 `quota_exceeded`
   */
  async fetch(document: ClaimedDocument, lease: DocumentLease): Promise<Original | null> {
    if (document.sourceUrl === null) throw new FileMissingError(`There is no original of ${document.id}.`);
    const page = await this.pages.fetch(document.sourceUrl, { signal: lease.signal });
    const outcome = await this.versionsService.fetched(document, page, lease.owner);
    if (outcome === 'lost') throw new LeaseLostError();
    if (outcome === 'unchanged') return null;
    const original = await this.database.run(tx => this.versions.find(tx, document.id, document.version));
    if (!original) throw new LeaseLostError();
    return original;
  }

  /**
   * Chunks in their order, a few at a time; whoever takes no more ends the reading.
   *
   * @throws DocumentError, ModelError, FileMissingError, FileDamagedError
   */
  async *read(original: Original, options: ReadOptions): AsyncGenerator<Chunk[], ReadResult> {
    const { fileName, mimeType } = original;
    const copy = await this.storage.localCopy(original.storageKey, original.contentSha256);
    try {
      const { split, signal } = options;
      const text = await this.remote.read({ path: copy.path, mimeType, fileName }, { signal });
      if (!text) {
        return resultOf(
          yield* this.loader.load({
            path: copy.path,
            fileName: fileName ?? undefined,
            declaredMimeType: mimeType,
            readable: options.readable,
            split,
            signal,
            recognize: await this.remote.recognizer(signal),
          }),
        );
      }
      try {
        const summary = yield* this.loader.load({
          path: text.path,
          declaredMimeType: text.mimeType,
          split,
          signal,
        });
        return {
          ...resultOf(summary),
          mimeType,
          pageCount: text.pageCount,
          warnings: [...text.warnings, ...summary.warnings],
        };
      } finally {
        await text.release();
      }
    } finally {
      await copy.release();
    }
  }
}

const resultOf = ({ mimeType, pageCount, title, canonicalUrl, warnings }: LoadSummary): ReadResult => ({
  mimeType,
  pageCount,
  title,
  canonicalUrl,
  warnings,
});
