import { Injectable } from '@nestjs/common';
import { Readable } from 'node:stream';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { ModelsService } from '../../core/models/models.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import { detectType } from '../../foundation/extraction/document-type.js';
import { Problem } from '../../foundation/http/problem.js';
import { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import { FileStorage, type ReceivedFile } from '../../foundation/storage/file-storage.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { DocumentAccessService } from './document-access.service.js';
import {
  type DocumentDescription,
  DocumentVersionsService,
  type NewFile,
  type Sender,
} from './document-versions.service.js';
import type { Document } from './document.entity.js';
import {
  type CreateFromUrl,
  type CreateText,
  type ImportUrls,
  type UploadFields,
  isSourceId,
} from './documents.dto.js';
import { isReadRemotely } from './remote-media.js';
import { canonicalAddress, titleOfAddress } from './web-address.js';
import { WEB_IMPORT_JOB, type WebImportPayload } from './web-import-job.js';

/** One file of an upload, as it comes in. */
export interface IncomingFile {
  content: AsyncIterable<Buffer>;
  fileName: string | null;
  /** As it was sent, with its folders. */
  path: string | null;
  declaredMimeType: string | null;
  /** The problem where the stream was cut at the limit; known once it has been read. */
  tooLarge: () => Problem | null;
}

/** A file of an upload, or what stands in the place of files: an address. */
export type UploadPart = { file: IncomingFile; fields: UploadFields } | { url: string; fields: UploadFields };

/** What became of one file of an upload. */
export interface FileOutcome {
  fileName: string | null;
  result: Document | Problem;
}

interface Arrived extends NewFile {
  description: DocumentDescription;
}

/** The ways in which documents come: files, texts and addresses of the web. */
@Injectable()
export class DocumentSourcesService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly versions: DocumentVersionsService,
    private readonly access: DocumentAccessService,
    private readonly quotas: QuotasService,
    private readonly jobs: BackgroundJobs,
    private readonly audit: AuditService,
    private readonly storage: FileStorage,
    private readonly outbound: OutboundClient,
    private readonly models: ModelsService,
    @InjectEnv() private readonly env: Env,
  ) {}

  /** @throws Problem 404 for a knowledge base that is not there or not one's own: before anything is taken in */
  knowledgeBase(reference: string): Promise<KnowledgeBase> {
    return this.knowledgeBases.get(reference);
  }

  /**
   * The knowledge base of a request that need not name one.
   *
   * @param references ids or slugs; none: the only one that there is for the caller
   * @throws Problem 400 `kb_mismatch`; 403, 404; 422 `kb_missing`
   */
  async knowledgeBaseOf(references: readonly string[]): Promise<KnowledgeBase> {
    const named: KnowledgeBase[] = [];
    for (const reference of references) named.push(await this.knowledgeBase(reference));
    const kb = named[0] ?? (await this.onlyKnowledgeBase());
    if (named.some(({ id }) => id !== kb.id))
      throw Problem.malformed('kb_mismatch', 'The request names different knowledge bases.');
    // The guard does not know which one it is, where the request names none.
    const { subject, tenant } = this.context;
    if (!(await this.authorization.canInKb(subject, tenant.id, kb.id, 'document:create')))
      throw Problem.forbidden('This needs the permission document:create.');
    return kb;
  }

  /** @throws Problem 413 `too_large`, and as {@link DocumentVersionsService.store} */
  async createFromText(kbReference: string, input: CreateText): Promise<Document> {
    const kb = await this.knowledgeBases.get(kbReference);
    const content = Buffer.from(input.text, 'utf8');
    const largest = await this.quotas.largestUpload();
    if (content.length > largest.bytes) throw largest.tooLarge();
    const by = await this.sender(kb);
    const file = await this.storage.receive(Readable.from([content]));
    const sourceUrl = input.source_url ?? null;
    return this.versions.store(
      kb,
      { file, fileName: null, mimeType: 'text/markdown' },
      {
        source: 'text',
        sourceUrl,
        sourceId: input.source_id ?? canonicalAddress(sourceUrl ?? ''),
        ...givenOf(input),
        fallbackTitle: firstLine(input.text),
        by,
      },
    );
  }

  /**
   * Takes files in, without holding them in memory. Nothing becomes a document before the last one has arrived: an
   * upload that breaks off leaves nothing behind.
   *
   * @returns of each file its document, or the problem with it: 409 `duplicate_source`, 413 `too_large`, 415 or 422 for
   *   what cannot be ingested, and those of {@link DocumentVersionsService.store}
   */
  async createFromParts(kb: KnowledgeBase, parts: AsyncIterable<UploadPart>): Promise<FileOutcome[]> {
    const by = await this.sender(kb);
    const arrived: Array<{ fileName: string | null; upload: Arrived | Problem }> = [];
    const outcomes: FileOutcome[] = [];
    try {
      for await (const part of parts) {
        if ('url' in part) return [{ fileName: null, result: await this.createFromUrl(kb, urlOf(part)) }];
        const upload = await orProblem(this.receive(part.file, part.fields, by));
        arrived.push({ fileName: part.file.fileName, upload });
      }
      // By source, the content that came first.
      const first = new Map<string, string>();
      for (const { fileName, upload } of arrived) {
        const result = upload instanceof Problem ? upload : await orProblem(this.take(kb, upload, first));
        outcomes.push({ fileName, result });
      }
      return outcomes;
    } finally {
      const left = arrived.slice(outcomes.length).map(({ upload }) => upload);
      for (const upload of left) if (!(upload instanceof Problem)) await upload.file.discard();
    }
  }

  /**
   * Has a web page fetched and ingested.
   *
   * @throws Problem 422 for an address that may not be asked, and as {@link DocumentVersionsService.request}
   */
  async createFromUrl(
    kb: KnowledgeBase,
    input: Omit<CreateFromUrl, 'on_existing'> & { on_existing?: 'version' | 'reject' },
  ): Promise<Document> {
    const address = this.addressOf(input.url, 'url');
    return this.versions.request(kb, {
      source: 'url',
      sourceUrl: address,
      sourceId: input.source_id ?? address,
      ...givenOf({ on_existing: 'version', ...input }),
      fallbackTitle: titleOfAddress(address),
      by: await this.sender(kb),
    });
  }

  /** Has a list of pages, or those of a sitemap, brought in by a job. @returns its id */
  async importUrls(kbReference: string, input: ImportUrls): Promise<string> {
    const kb = await this.knowledgeBases.get(kbReference);
    const sitemapUrl = input.sitemap_url ? this.addressOf(input.sitemap_url, 'sitemap_url') : null;
    const { userId, tokenId, mayUpdate } = await this.sender(kb);
    const payload: WebImportPayload = {
      kbId: kb.id,
      urls: input.urls,
      sitemapUrl,
      include: input.include ?? null,
      exclude: input.exclude,
      maxPages: input.max_pages,
      metadata: input.metadata ?? null,
      acl: input.acl ?? null,
      priority: input.priority ?? 0,
      onExisting: input.on_existing,
      mayUpdate,
      createdBy: userId,
      tokenId,
    };
    return this.database.run(async tx => {
      if (input.acl) await this.access.lockReaders(tx, input.acl);
      const id = await this.jobs.enqueue(tx, {
        kind: WEB_IMPORT_JOB,
        payload,
        tenantId: kb.tenantId,
        permission: 'document:create',
      });
      this.audit.record(tx, {
        action: 'document.import_started',
        resource: { type: 'kb', id: kb.id },
        details: { job_id: id, addresses: input.urls.length, sitemap_url: sitemapUrl },
      });
      return id;
    });
  }

  private async onlyKnowledgeBase(): Promise<KnowledgeBase> {
    const only = await this.knowledgeBases.only();
    if (only) return only;
    throw Problem.invalid([
      {
        path: 'kb',
        code: 'kb_missing',
        message: 'Name the knowledge base, in the query or with the header X-KB-ID.',
      },
    ]);
  }

  /** @throws Problem 422 where it may not be asked, as far as it shows by itself */
  private addressOf(url: string, path: string): string {
    const refused = (code: string, message: string) => Problem.invalid([{ path, code, message }]);
    try {
      this.outbound.check(url);
    } catch (error) {
      if (error instanceof OutboundError) throw refused(error.code, error.message);
      throw error;
    }
    const address = canonicalAddress(url);
    if (address === null) throw refused('too_big', 'The address is too long.');
    return address;
  }

  private async sender(kb: KnowledgeBase): Promise<Sender> {
    const { principal } = this.context;
    if (principal.kind === 'system') return { userId: null, tokenId: null, mayUpdate: true };
    const { subject, tenant, userId } = this.context;
    return {
      userId,
      tokenId: principal.kind === 'api_token' ? principal.tokenId : null,
      mayUpdate: await this.authorization.canInKb(subject, tenant.id, kb.id, 'document:update'),
    };
  }

  private async take(kb: KnowledgeBase, upload: Arrived, first: Map<string, string>): Promise<Document> {
    const { file, description } = upload;
    const { sourceId } = description;
    const before = sourceId === null ? undefined : first.get(sourceId);
    if (before !== undefined && before !== file.sha256) {
      await file.discard();
      throw Problem.conflict('duplicate_source', 'Another file of this request has the same source.');
    }
    if (sourceId !== null) first.set(sourceId, file.sha256);
    return this.versions.store(kb, upload, description);
  }

  private async receive(incoming: IncomingFile, fields: UploadFields, by: Sender): Promise<Arrived> {
    const file = await this.storage.receive(incoming.content);
    const tooLarge = incoming.tooLarge();
    if (tooLarge) {
      await file.discard();
      throw tooLarge;
    }
    const { fileName, path } = incoming;
    return {
      file,
      fileName,
      mimeType: await this.typeOf(file, incoming),
      description: {
        source: 'upload',
        sourceUrl: null,
        // A path that no index can hold makes no versions.
        sourceId: fields.source_id ?? (path !== null && isSourceId(path) ? path : null),
        ...givenOf(fields),
        fallbackTitle: titleOfFile(fileName),
        by,
      },
    };
  }

  private async typeOf(file: ReceivedFile, incoming: IncomingFile): Promise<string> {
    try {
      const readers = {
        docling: this.env.docling,
        transcription: await this.models.transcription(),
        vision: await this.models.vision(),
      };
      return await detectType(
        file.head,
        {
          fileName: incoming.fileName ?? undefined,
          declaredMimeType: incoming.declaredMimeType ?? undefined,
        },
        { alsoReadable: mimeType => isReadRemotely(readers, mimeType) },
      );
    } catch (error) {
      await file.discard();
      if (!(error instanceof DocumentError)) throw error;
      throw new Problem(error.code === 'unsupported_type' ? 415 : 422, error.code, error.message);
    }
  }
}

/** Fields that are given, named as in this code. */
const givenOf = ({
  title,
  metadata,
  acl,
  priority,
  on_existing: onExisting,
}: Pick<UploadFields, 'title' | 'metadata' | 'acl' | 'priority' | 'on_existing'>) => ({
  title,
  metadata,
  acl,
  priority,
  onExisting,
});

const urlOf = ({ url, fields }: { url: string; fields: UploadFields }) => ({ ...fields, url });

const orProblem = <T>(work: Promise<T>): Promise<T | Problem> =>
  work.catch((error: unknown) => {
    if (error instanceof Problem) return error;
    throw error;
  });

const LONGEST_TITLE = 120;

function firstLine(text: string): string {
  const line =
    text
      .trimStart()
      .split('\n', 1)[0]
      ?.replace(/^#+\s*/, '')
      .trim() ?? '';
  return Array.from(line).slice(0, LONGEST_TITLE).join('') || 'Untitled';
}

function titleOfFile(fileName: string | null): string {
  return (
    fileName
      ?.replace(/\.[^.]{1,10}$/, '')
      .trim()
      .slice(0, 500) || 'Untitled'
  );
}
