import { Injectable, Logger } from '@nestjs/common';
import type { Readable } from 'node:stream';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { Problem } from '../../foundation/http/problem.js';
import {
  type ByteRange,
  FileDamagedError,
  FileMissingError,
  FileStorage,
} from '../../foundation/storage/file-storage.js';
import { verified } from '../../foundation/storage/verified-content.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { type DocumentVersion, DocumentVersionsRepository } from './document-versions.repository.js';
import { DocumentsRepository } from './documents.repository.js';

/** An original, and what it is called where it is saved. */
export interface Original extends DocumentVersion {
  downloadName: string;
}

/** Endings of originals that came without a name. */
const ENDINGS: Record<string, string> = {
  'text/markdown': '.md',
  'text/html': '.html',
  'text/plain': '.txt',
  'application/pdf': '.pdf',
};

/** Originals, as they were brought in. */
@Injectable()
export class DocumentContentService {
  private readonly logger = new Logger(DocumentContentService.name);

  constructor(
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly documents: DocumentsRepository,
    private readonly versions: DocumentVersionsRepository,
    private readonly storage: FileStorage,
  ) {}

  /** @param version [the newest that is stored]. @throws Problem 404 */
  find(kbReference: string, id: string, version: number | undefined): Promise<Original> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      const document = await this.documents.find(tx, kb.id, id);
      if (!document) throw Problem.notFound('document');
      // A web page that is fetched anew has none of its newest version yet.
      const stored = await this.versions.list(tx, id);
      const original = version === undefined ? stored.at(-1) : stored.find(one => one.version === version);
      if (!original) throw Problem.notFound('content');
      const { fileName, mimeType } = original;
      return { ...original, downloadName: fileName ?? `${document.title}${ENDINGS[mimeType] ?? ''}` };
    });
  }

  /** @throws Problem 404 */
  async requireStored(original: Original): Promise<void> {
    if (!(await this.storage.has(original.storageKey))) throw this.missing(original);
  }

  /**
   * The content, which breaks off before its end where it is not what was brought in.
   *
   * @param range [all]
   * @throws Problem 404 where the storage has lost it, 500 `content_damaged`
   */
  async open(original: Original, range?: ByteRange): Promise<Readable> {
    const length = range ? range.end - range.start + 1 : original.sizeBytes;
    const whole = length === original.sizeBytes;
    let content: Readable;
    try {
      content = await this.storage.open(original.storageKey, whole ? undefined : range);
    } catch (error) {
      if (error instanceof FileMissingError) throw this.missing(original);
      if (error instanceof FileDamagedError) throw this.damaged(original);
      throw error;
    }
    const sha256 = whole ? original.contentSha256 : null;
    return verified(content, { sizeBytes: length, sha256 }, () => this.damaged(original));
  }

  private missing(original: Original): Problem {
    this.tell('The original of a document is missing', original);
    return Problem.notFound('content');
  }

  private damaged(original: Original): Problem {
    this.tell('The original of a document is damaged', original);
    return new Problem(500, 'content_damaged', 'What is stored is not what was uploaded.');
  }

  private tell(msg: string, { documentId, version, storageKey }: Original): void {
    this.logger.error({ msg, document_id: documentId, version, storage_key: storageKey });
  }
}
