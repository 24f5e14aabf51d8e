import { z } from 'zod';
import { CONFIG_FIELDS } from '../../core/tenancy/tenant-config.js';
import { chunkSchema, warningsField } from '../documents/documents.dto.js';
import type { Preview } from './preview.service.js';

const { chunk_size, chunk_overlap, chunk_unit } = CONFIG_FIELDS;
/** Characters. */
const LONGEST_TEXT = 10_000_000;

const fits = ({
  chunk_size: size,
  chunk_overlap: overlap,
}: {
  chunk_size?: number;
  chunk_overlap?: number;
}) => size === undefined || overlap === undefined || overlap < size / 2;
const NOT_FITTING = { path: ['chunk_overlap'], message: 'must be less than half of chunk_size' };

export const previewSchema = z
  .strictObject({
    text: z
      .string()
      .max(LONGEST_TEXT)
      .refine(text => text.trim() !== '', 'must not be empty')
      .optional()
      .meta({ example: '# Warranty\n\nFrames carry a warranty of ten years from the day of purchase.' }),
    document_id: z
      .uuid()
      .transform(id => id.toLowerCase())
      .optional()
      .describe('Of the knowledge base; its newest original that is stored'),
    chunk_size: chunk_size.schema.optional(),
    chunk_overlap: chunk_overlap.schema.optional(),
    chunk_unit: chunk_unit.schema.optional(),
  })
  .refine(({ text, document_id }) => (text === undefined) !== (document_id === undefined), {
    path: ['text'],
    message: 'There must be either a text or a document_id, or a file in a form',
  })
  .refine(fits, NOT_FITTING)
  .meta({ id: 'PreviewChunks' });

const wholeNumber = (schema: z.ZodType<number, number>) =>
  z
    .string()
    .regex(/^\d{1,6}$/, 'must be a whole number')
    .transform(Number)
    .pipe(schema)
    .optional();

/** The fields that may stand before the file of a form. */
export const previewFieldsSchema = z
  .strictObject({
    chunk_size: wholeNumber(chunk_size.schema),
    chunk_overlap: wholeNumber(chunk_overlap.schema),
    chunk_unit: chunk_unit.schema.optional(),
  })
  .refine(fits, NOT_FITTING);

export type PreviewBody = z.output<typeof previewSchema>;
export type PreviewFields = z.output<typeof previewFieldsSchema>;

export const previewResultSchema = z
  .object({
    title: z.string().nullable().describe('What the document calls itself'),
    mime_type: z.string().meta({ example: 'text/markdown' }),
    chunks: z.array(chunkSchema.omit({ id: true, document_id: true })).describe('The first 100'),
    chunk_count: z.int().describe('Of the whole document'),
    token_count: z.int().describe('Of all chunks; estimated'),
    page_count: z.int(),
    character_count: z.int(),
    warnings: warningsField,
    config: z.object({ chunk_size: z.int(), chunk_overlap: z.int(), chunk_unit: chunk_unit.schema }),
  })
  .meta({ id: 'ChunkPreview' });

export function toPreview({ summary, chunks, chunkCount, tokenCount, config }: Preview) {
  return {
    title: summary.title,
    mime_type: summary.mimeType,
    chunks: chunks.map(chunk => ({
      ordinal: chunk.ordinal,
      text: chunk.text,
      heading: chunk.heading,
      page: chunk.page,
      start_offset: chunk.startOffset,
      end_offset: chunk.endOffset,
      token_count: chunk.tokenCount,
    })),
    chunk_count: chunkCount,
    token_count: tokenCount,
    page_count: summary.pageCount,
    character_count: summary.characterCount,
    warnings: summary.warnings,
    config,
  } satisfies z.infer<typeof previewResultSchema>;
}
