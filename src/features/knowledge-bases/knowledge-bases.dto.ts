import { z } from 'zod';
import { listQuery, pageSchema, toMegabytes } from '../../foundation/http/pagination.js';
import { configSchema } from './knowledge-base-config.js';
import type { KnowledgeBase } from './knowledge-base.entity.js';
import { LANGUAGES } from './languages.js';

const nameField = z.string().trim().min(1).max(200).meta({ example: 'Product documentation' });
const slugField = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?$/, 'must be lowercase letters, digits, dashes and underscores')
  .refine(slug => !z.uuid().safeParse(slug).success, 'must not be a UUID')
  .meta({ example: 'product-docs' });
const descriptionField = z.string().max(2000);
const visibilityField = z
  .enum(['tenant', 'granted'])
  .describe('Who sees it: everybody in the tenant, or only those whom a role was granted on it');

const languageField = z
  .enum(LANGUAGES)
  .describe(
    'What words are stemmed as, and which of them do not count. "simple" takes them as they are, "cjk" is for Chinese, ' +
      'Japanese and Korean. Another one makes the keyword index anew, in a job; it is searched as before until then.',
  )
  .meta({ example: 'english' });

export const createKnowledgeBaseSchema = z
  .strictObject({
    name: nameField,
    slug: slugField.optional().describe('Made from the name where it is missing'),
    description: descriptionField.default(''),
    config: configSchema.default({}),
    language: languageField.default('english'),
    visibility: visibilityField
      .optional()
      .describe('As the feature default_kb_visibility says where it is missing'),
  })
  .meta({ id: 'CreateKnowledgeBase' });

export const updateKnowledgeBaseSchema = z
  .strictObject({
    name: nameField.optional(),
    slug: slugField.optional(),
    description: descriptionField.optional(),
    config: configSchema.optional(),
    language: languageField.optional(),
    is_active: z.boolean().optional(),
    visibility: visibilityField.optional(),
  })
  .meta({ id: 'UpdateKnowledgeBase' });

export const replaceKnowledgeBaseSchema = z
  .strictObject({
    name: nameField,
    slug: slugField,
    description: descriptionField,
    config: configSchema,
    language: languageField.optional().describe('As it is where it is missing'),
    is_active: z.boolean(),
    visibility: visibilityField.optional().describe('As it is where it is missing'),
  })
  .meta({ id: 'ReplaceKnowledgeBase' });

export const listKnowledgeBasesQuery = listQuery(['created_at', 'name'], {});

export const knowledgeBaseSchema = z
  .object({
    id: z.uuid(),
    tenant_id: z.uuid(),
    name: z.string().meta({ example: 'Product documentation' }),
    slug: z.string().meta({ example: 'product-docs' }),
    description: z.string(),
    config: configSchema,
    language: languageField,
    indexed_language: z.string().describe('What the keyword index is made with at the moment'),
    embedding_model: z.string().nullable().describe('Of the stored vectors; null while there are none'),
    reindexing_to: z
      .string()
      .nullable()
      .describe(
        'The embedding model that all documents are being indexed for anew; searched as before until then',
      ),
    ingestion_paused: z.boolean().describe('While it is, no ingestion begins'),
    is_active: z.boolean(),
    visibility: visibilityField,
    document_count: z.int().describe('Of those that one may read, like the other statistics'),
    chunk_count: z.int(),
    entity_count: z.int().describe('Of its knowledge graph'),
    relation_count: z.int(),
    storage_mb: z.number(),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'KnowledgeBase' });

export const knowledgeBasePageSchema = pageSchema(knowledgeBaseSchema, 'KnowledgeBasePage');

export const statisticsSchema = z
  .object({
    document_count: z.int(),
    chunk_count: z.int(),
    entity_count: z.int(),
    relation_count: z.int(),
    storage_bytes: z.int(),
    storage_mb: z.number(),
    documents_by_status: z.record(z.string(), z.int()),
  })
  .meta({ id: 'KnowledgeBaseStatistics' });

export type CreateKnowledgeBase = z.infer<typeof createKnowledgeBaseSchema>;
export type UpdateKnowledgeBase = z.infer<typeof updateKnowledgeBaseSchema>;
export type ListKnowledgeBases = z.infer<typeof listKnowledgeBasesQuery>;

export function toKnowledgeBase(kb: KnowledgeBase): z.infer<typeof knowledgeBaseSchema> {
  return {
    id: kb.id,
    tenant_id: kb.tenantId,
    name: kb.name,
    slug: kb.slug,
    description: kb.description,
    config: kb.config,
    language: kb.language,
    indexed_language: kb.indexedLanguage,
    embedding_model: kb.embeddingModel,
    reindexing_to: kb.reindexingTo,
    ingestion_paused: kb.ingestionPaused,
    is_active: kb.isActive,
    visibility: kb.visibility,
    document_count: kb.documentCount,
    chunk_count: kb.chunkCount,
    entity_count: kb.entityCount,
    relation_count: kb.relationCount,
    storage_mb: toMegabytes(kb.storageBytes),
    created_by: kb.createdBy,
    created_at: kb.createdAt.toISOString(),
    updated_at: kb.updatedAt.toISOString(),
  };
}

/** A slug out of a name of any alphabet; empty where nothing of it can stand in one. */
export function slugOf(name: string): string {
  return name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 60)
    .replace(/^-+|-+$/g, '');
}
