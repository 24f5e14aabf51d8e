import type { INestApplicationContext } from '@nestjs/common';
import { createReadStream } from 'node:fs';
import { posix } from 'node:path';
import { TenantContext } from './core/tenancy/tenant-context.js';
import { TenantDatabase } from './core/tenancy/tenant-database.js';
import { type KnownTenant, TenantDirectory } from './core/tenancy/tenant-directory.js';
import { QuotasService } from './core/quotas/quotas.service.js';
import { DocumentJobsRepository } from './features/documents/document-jobs.repository.js';
import { DocumentSourcesService } from './features/documents/document-sources.service.js';
import type { Document } from './features/documents/document.entity.js';
import {
  type UploadFields,
  listDocumentsQuery,
  uploadFieldsSchema,
} from './features/documents/documents.dto.js';
import { DocumentsService } from './features/documents/documents.service.js';
import type { KnowledgeBase } from './features/knowledge-bases/knowledge-base.entity.js';
import { createKnowledgeBaseSchema } from './features/knowledge-bases/knowledge-bases.dto.js';
import { KnowledgeBasesService } from './features/knowledge-bases/knowledge-bases.service.js';
import { Problem } from './foundation/http/problem.js';
import { parseFields } from './foundation/http/validation.pipe.js';
import type { LocalFile } from './ingest-files.js';
import { FileRefused, type IngestTarget, type IngestedDocument } from './ingest-run.js';

/** Where the files go. */
export interface Destination {
  /** Id or name. */
  tenant: string;
  /** Id or slug. */
  kb: string;
  createKb: boolean;
  metadata: Record<string, unknown> | null;
}

/** A knowledge base of the database that this process has opened itself. As the system. */
export class IngestHere implements IngestTarget {
  private readonly context: TenantContext;
  private readonly sources: DocumentSourcesService;
  private readonly documents: DocumentsService;
  private readonly fields: UploadFields;

  private constructor(
    private readonly nest: INestApplicationContext,
    private readonly tenant: KnownTenant,
    private readonly kb: KnowledgeBase,
    metadata: Destination['metadata'],
  ) {
    this.context = nest.get(TenantContext);
    this.sources = nest.get(DocumentSourcesService, { strict: false });
    this.documents = nest.get(DocumentsService, { strict: false });
    this.fields = parseFields(uploadFieldsSchema, metadata ? { metadata: JSON.stringify(metadata) } : {});
  }

  /** @throws Problem with a sentence where there is no such tenant or knowledge base */
  static async open(nest: INestApplicationContext, destination: Destination): Promise<IngestHere> {
    const tenant = await nest.get(TenantDirectory, { strict: false }).find(destination.tenant);
    if (!tenant) throw new Problem(404, 'not_found', `There is no tenant "${destination.tenant}".`);
    const kbs = nest.get(KnowledgeBasesService, { strict: false });
    const kb = await nest.get(TenantContext).runAsSystem(tenant, () =>
      kbs.get(destination.kb).catch((error: unknown) => {
        if (!(error instanceof Problem && error.status === 404)) throw error;
        if (destination.createKb)
          return kbs.create(parseFields(createKnowledgeBaseSchema, { name: destination.kb }));
        throw new Problem(404, 'not_found', noKnowledgeBase(destination));
      }),
    );
    return new IngestHere(nest, tenant, kb, destination.metadata);
  }

  async find(sourceId: string): Promise<IngestedDocument | null> {
    const query = listDocumentsQuery.safeParse({ source_id: sourceId, page_size: 1 });
    // A path that is too long makes no versions, and no document is found by it.
    if (!query.success) return null;
    const { items } = await this.within(() => this.documents.list(this.kb.id, query.data));
    return items[0] ? toIngested(items[0]) : null;
  }

  add(file: LocalFile): Promise<IngestedDocument> {
    return this.within(async () => {
      const [outcome] = await this.sources.createFromParts(this.kb, this.partsOf(file));
      const result = outcome?.result;
      if (!result) throw new FileRefused('unreadable', 'The file could not be read.');
      if (result instanceof Problem) throw refusalOf(result);
      return toIngested(result);
    });
  }

  async look(ids: readonly string[]): Promise<IngestedDocument[]> {
    const repository = this.nest.get(DocumentJobsRepository, { strict: false });
    const database = this.nest.get(TenantDatabase, { strict: false });
    const found = await this.within(() => database.run(tx => repository.list(tx, ids)));
    const gone = ids.filter(id => !found.some(document => document.id === id));
    return [
      ...found.map(toIngested),
      ...gone.map(id => ({ id, status: 'deleting' as const, sha256: null, error: null })),
    ];
  }

  private async *partsOf({ path, sourceId }: LocalFile) {
    const largest = await this.nest.get(QuotasService, { strict: false }).largestUpload();
    const content = createReadStream(path, { end: largest.bytes });
    yield {
      fields: this.fields,
      file: {
        content,
        fileName: posix.basename(sourceId),
        path: sourceId,
        declaredMimeType: null,
        // One byte more is read than may be.
        tooLarge: () => (content.bytesRead > largest.bytes ? largest.tooLarge() : null),
      },
    };
  }

  private within<T>(work: () => Promise<T>): Promise<T> {
    return this.context.runAsSystem(this.tenant, work);
  }
}

export const noKnowledgeBase = ({ tenant, kb }: Destination): string =>
  `The tenant "${tenant}" has no knowledge base "${kb}". With --create-kb it is made.`;

function refusalOf({ code, detail, options }: Problem): FileRefused {
  const id = options.members?.['document_id'];
  return new FileRefused(code, detail, typeof id === 'string' ? id : null);
}

const toIngested = (document: Document): IngestedDocument => ({
  id: document.id,
  status: document.status,
  sha256: document.contentSha256,
  error: document.errorCode ? { code: document.errorCode, message: document.errorMessage ?? '' } : null,
});
