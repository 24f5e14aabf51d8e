import { z } from 'zod';
import { freeJson, jsonValue } from '../../foundation/http/free-json.js';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { inspect } from '../../foundation/http/request-guards.js';
import type { Chunk } from './chunks.repository.js';
import type { DocumentVersion } from './document-versions.repository.js';
import { DOCUMENT_SOURCES, DOCUMENT_STAGES, DOCUMENT_STATUSES, type Document } from './document.entity.js';
import { LONGEST_ADDRESS } from './web-address.js';

const titleField = z.string().trim().min(1).max(500).meta({ example: 'Warranty terms' });
export const metadataField = freeJson.meta({ example: { department: 'support', year: 2026 } });

const lowercaseUuid = z.uuid().transform(id => id.toLowerCase());

const aclField = z
  .strictObject({
    members: z.array(lowercaseUuid).max(500).default([]),
    groups: z.array(lowercaseUuid).max(500).default([]),
  })
  .meta({ id: 'DocumentAcl', description: 'Who may read a document, of all who read its knowledge base' });

export const setAclSchema = z
  .strictObject({ acl: aclField.nullable().describe('Null: whoever reads the knowledge base') })
  .meta({ id: 'SetDocumentAcl' });

const addressField = z
  .url({ protocol: /^https?$/ })
  .max(LONGEST_ADDRESS)
  .meta({ example: 'https://example.com/handbook' });

/** More would not fit into the index that keeps sources unique. */
const LONGEST_SOURCE_BYTES = 2500;

/** Whether an index can hold what a document is a version of. */
export const isSourceId = (text: string): boolean =>
  text.trim() !== '' && Buffer.byteLength(text) <= LONGEST_SOURCE_BYTES;

const sourceIdField = z
  .string()
  .max(1000)
  .refine(isSourceId, `must not be empty, or longer than ${LONGEST_SOURCE_BYTES} bytes`)
  .meta({ example: 'handbook/warranty.md' });

const WHAT_SOURCE_ID_IS =
  'What the document is a version of: newer content of the same source_id becomes a version of the same document.';

const priorityField = z
  .int()
  .min(-10)
  .max(10)
  .describe('More is earlier, among what its tenant has waiting [0]');

const onExistingField = z
  .enum(['version', 'reject'])
  .describe(
    'What becomes of newer content of a source that is there: a version of its document, or a 409 [version]',
  );

/** What may be said of every document, whatever way it comes. */
const describedFields = {
  title: titleField.optional(),
  metadata: metadataField.optional(),
  acl: aclField.optional().describe('From the start; whoever reads the knowledge base where it is missing'),
  source_id: sourceIdField.optional().describe(WHAT_SOURCE_ID_IS),
  priority: priorityField.optional(),
  on_existing: onExistingField.default('version'),
};

/** Characters. */
const LONGEST_TEXT = 10_000_000;

export const createTextSchema = z
  .strictObject({
    text: z
      .string()
      .max(LONGEST_TEXT)
      .refine(text => text.trim() !== '', 'must not be empty')
      .meta({ example: '# Warranty\n\nFrames carry a warranty of ten years from the day of purchase.' }),
    source_url: addressField.optional().describe('Its source_id, too, where that is missing'),
    ...describedFields,
    title: titleField.optional().describe('The first line of the text where it is missing'),
  })
  .meta({ id: 'CreateTextDocument' });

export const createFromUrlSchema = z
  .strictObject({
    url: addressField,
    ...describedFields,
    title: titleField.optional().describe('The page’s own where it is missing'),
    source_id: sourceIdField.optional().describe(`${WHAT_SOURCE_ID_IS} The address where it is missing`),
  })
  .meta({ id: 'CreateDocumentFromUrl' });

const pathPattern = z
  .string()
  .min(1)
  .max(200)
  .meta({ description: 'Of a path, in which * stands for anything', example: '/docs/*' });

/** Addresses of one import. */
export const MOST_PAGES = 10_000;

export const importUrlsSchema = z
  .strictObject({
    urls: z
      .array(z.string().max(LONGEST_ADDRESS))
      .max(1000)
      .default([])
      .meta({ example: ['https://example.com/a', 'https://example.com/b'] }),
    sitemap_url: addressField
      .optional()
      .describe('Of a sitemap, an index of sitemaps, or a text with an address a line'),
    include: z.array(pathPattern).min(1).max(100).optional().describe('Only these paths [all]'),
    exclude: z.array(pathPattern).max(100).default([]).describe('Not these paths'),
    max_pages: z
      .int()
      .min(1)
      .max(MOST_PAGES)
      .default(1000)
      .describe('Addresses that are taken, at most [1000]'),
    metadata: metadataField.optional(),
    acl: aclField.optional().describe('From the start; whoever reads the knowledge base where it is missing'),
    priority: priorityField.optional(),
    on_existing: onExistingField.default('version'),
  })
  .refine(({ urls, sitemap_url }) => urls.length > 0 || sitemap_url !== undefined, {
    path: ['urls'],
    message: 'There must be addresses, or a sitemap',
  })
  .meta({ id: 'ImportUrls' });

export const bulkDeleteSchema = z
  .strictObject({ document_ids: z.array(lowercaseUuid).min(1).max(500) })
  .meta({ id: 'BulkDeleteDocuments' });

export const bulkDeletedSchema = z
  .object({ deleted: z.array(z.uuid()), not_found: z.array(z.uuid()) })
  .meta({ id: 'BulkDeletedDocuments' });

export const updateDocumentSchema = z
  .strictObject({ title: titleField.optional(), metadata: metadataField.optional() })
  .meta({ id: 'UpdateDocument' });

/** JSON in a field of a form. */
function jsonField<Schema extends z.ZodType>(schema: Schema) {
  return z
    .string()
    .max(64 * 1024)
    .transform((text, context): unknown => {
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch {
        context.addIssue({ code: 'custom', message: 'must be a JSON object' });
        return z.NEVER;
      }
      // A body's JSON was looked at before it came here; this one was a string until now.
      const problem = inspect(value);
      if (problem) throw problem;
      return value;
    })
    .pipe(schema);
}

/** The fields that may stand beside the files of an upload, or in their place an address. */
export const uploadFieldsSchema = z.strictObject({
  ...describedFields,
  metadata: jsonField(metadataField).optional(),
  acl: jsonField(aclField).optional(),
  priority: z
    .string()
    .regex(/^-?\d{1,2}$/, 'must be a whole number from -10 to 10')
    .transform(Number)
    .pipe(priorityField)
    .optional(),
  url: addressField.optional(),
});

export const listDocumentsQuery = listQuery(['created_at', 'title', 'updated_at', 'size_bytes'], {
  status: z.enum(DOCUMENT_STATUSES).optional(),
  source: z.enum(DOCUMENT_SOURCES).optional(),
  source_id: z.string().max(LONGEST_ADDRESS).optional(),
  job_id: z.uuid().optional().describe('Of the import that has brought them in'),
});

export const warningsField = z
  .array(z.object({ code: z.string(), message: z.string(), pages: z.array(z.int()).optional() }))
  .describe('What could not be read of it');

export const documentSchema = z
  .object({
    id: z.uuid(),
    kb_id: z.uuid(),
    title: z.string().meta({ example: 'Warranty terms' }),
    source: z.enum(DOCUMENT_SOURCES),
    source_url: z.string().nullable(),
    canonical_url: z.string().nullable().describe('Where a web page says that it belongs'),
    file_name: z.string().nullable(),
    mime_type: z.string().meta({ example: 'text/markdown' }),
    size_bytes: z.int(),
    source_id: z.string().nullable().describe('What it is a version of'),
    job_id: z.uuid().nullable().describe('Of the import that has brought it in'),
    content_sha256: z.string().nullable().describe('Null: a web page that has not been fetched yet'),
    version: z.int().describe('Of the newest content'),
    indexed_version: z.int().describe('The version that is searchable; 0: none'),
    priority: z.int(),
    warnings: warningsField,
    metadata: z.record(z.string(), jsonValue),
    status: z.enum(DOCUMENT_STATUSES),
    stage: z.enum(DOCUMENT_STAGES).nullable(),
    progress: z.number().describe('0 to 1'),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    attempts: z.int(),
    chunk_count: z.int(),
    token_count: z.int().describe('Estimated'),
    restricted: z.boolean().describe('Whether only listed members and groups may read it'),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'Document' });

export const documentVersionSchema = z
  .object({
    version: z.int(),
    searchable: z.boolean().describe('Whether its chunks are those that are found'),
    content_sha256: z.string(),
    size_bytes: z.int(),
    mime_type: z.string(),
    file_name: z.string().nullable(),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: 'DocumentVersion' });

export const documentVersionsSchema = z
  .object({ items: z.array(documentVersionSchema).describe('Newest first'), total: z.int() })
  .meta({ id: 'DocumentVersions' });

export const documentPageSchema = pageSchema(documentSchema, 'DocumentPage');

export const uploadResultSchema = z
  .object({
    items: z.array(documentSchema).describe('Accepted, and being ingested'),
    rejected: z.array(
      z.object({
        file_name: z.string().nullable(),
        status: z.int(),
        code: z.string(),
        detail: z.string(),
        document_id: z.uuid().optional().describe('Of the document that has this content or source already'),
      }),
    ),
  })
  .meta({ id: 'UploadResult' });

export const chunkSchema = z
  .object({
    id: z.uuid(),
    document_id: z.uuid(),
    ordinal: z.int().describe('From 0'),
    text: z.string(),
    heading: z.string().nullable().meta({ example: 'Warranty > Frames' }),
    page: z.int().nullable(),
    start_offset: z.int(),
    end_offset: z.int(),
    token_count: z.int().describe('Estimated'),
  })
  .meta({ id: 'Chunk' });

export const chunkPageSchema = pageSchema(chunkSchema, 'ChunkPage');

export const documentAclSchema = z
  .object({
    restricted: z.boolean(),
    acl: z.object({ members: z.array(z.uuid()), groups: z.array(z.uuid()) }).nullable(),
  })
  .meta({ id: 'DocumentAccess' });

/** Ids of the members and groups that may read a document; whoever sees everything may too. */
export interface Acl {
  members: string[];
  groups: string[];
}

export type CreateText = z.infer<typeof createTextSchema>;
export type CreateFromUrl = z.infer<typeof createFromUrlSchema>;
export type ImportUrls = z.infer<typeof importUrlsSchema>;
export type BulkDelete = z.infer<typeof bulkDeleteSchema>;
export type UpdateDocument = z.infer<typeof updateDocumentSchema>;
export type UploadFields = z.infer<typeof uploadFieldsSchema>;
export type ListDocuments = z.infer<typeof listDocumentsQuery>;

export function toDocument(document: Document): z.infer<typeof documentSchema> {
  return {
    id: document.id,
    kb_id: document.kbId,
    title: document.title,
    source: document.source,
    source_url: document.sourceUrl,
    canonical_url: document.canonicalUrl,
    file_name: document.fileName,
    mime_type: document.mimeType,
    size_bytes: document.sizeBytes,
    source_id: document.sourceId,
    job_id: document.jobId,
    content_sha256: document.contentSha256,
    version: document.version,
    indexed_version: document.indexedVersion,
    priority: document.priority,
    warnings: document.warnings,
    metadata: document.metadata as z.infer<typeof documentSchema>['metadata'],
    status: document.status,
    stage: document.stage,
    progress: Math.round(document.progress * 1000) / 1000,
    error: document.errorCode ? { code: document.errorCode, message: document.errorMessage ?? '' } : null,
    attempts: document.attempts,
    chunk_count: document.chunkCount,
    token_count: document.tokenCount,
    restricted: document.restricted,
    created_by: document.createdBy,
    created_at: document.createdAt.toISOString(),
    updated_at: document.updatedAt.toISOString(),
  };
}

export const toVersion = (
  version: DocumentVersion,
  document: Document,
): z.infer<typeof documentVersionSchema> => ({
  version: version.version,
  searchable: version.version === document.indexedVersion,
  content_sha256: version.contentSha256,
  size_bytes: version.sizeBytes,
  mime_type: version.mimeType,
  file_name: version.fileName,
  created_by: version.createdBy,
  created_at: version.createdAt.toISOString(),
});

export const toChunk = (chunk: Chunk): z.infer<typeof chunkSchema> => chunk;
