import { z } from 'zod';
import { freeJson, jsonValue } from '../../foundation/http/free-json.js';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { inspect } from '../../foundation/http/request-guards.js';
import type { Chunk } from './chunks.repository.js';
import { DOCUMENT_SOURCES, DOCUMENT_STAGES, DOCUMENT_STATUSES, type Document } from './document.entity.js';

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

/** Characters. */
const LONGEST_TEXT = 10_000_000;

export const createTextSchema = z
  .strictObject({
    text: z
      .string()
      .max(LONGEST_TEXT)
      .refine(text => text.trim() !== '', 'must not be empty')
      .meta({ example: '# Warranty\n\nFrames carry a warranty of ten years from the day of purchase.' }),
    title: titleField.optional().describe('The first line of the text where it is missing'),
    metadata: metadataField.default({}),
    source_url: z
      .url({ protocol: /^https?$/ })
      .max(2000)
      .optional(),
    acl: aclField.optional().describe('From the start; whoever reads the knowledge base where it is missing'),
  })
  .meta({ id: 'CreateTextDocument' });

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

/** The fields that may stand beside the files of an upload. */
export const uploadFieldsSchema = z.strictObject({
  title: titleField.optional(),
  metadata: jsonField(metadataField).optional(),
  acl: jsonField(aclField).optional(),
});

export const listDocumentsQuery = listQuery(['created_at', 'title', 'updated_at', 'size_bytes'], {
  status: z.enum(DOCUMENT_STATUSES).optional(),
});

export const documentSchema = z
  .object({
    id: z.uuid(),
    kb_id: z.uuid(),
    title: z.string().meta({ example: 'Warranty terms' }),
    source: z.enum(DOCUMENT_SOURCES),
    source_url: z.string().nullable(),
    file_name: z.string().nullable(),
    mime_type: z.string().meta({ example: 'text/markdown' }),
    size_bytes: z.int(),
    content_sha256: z.string(),
    version: z.int(),
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
        document_id: z.uuid().optional().describe('Of the document that has this content already'),
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
    file_name: document.fileName,
    mime_type: document.mimeType,
    size_bytes: document.sizeBytes,
    content_sha256: document.contentSha256,
    version: document.version,
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

export const toChunk = (chunk: Chunk): z.infer<typeof chunkSchema> => chunk;
