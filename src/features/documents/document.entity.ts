import { v7 as uuidv7 } from 'uuid';
import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';
import { bigintAsNumber } from '../../foundation/database/column-transformers.js';

export const DOCUMENT_STATUSES = [
  'queued',
  'processing',
  'ready',
  'failed',
  'cancelled',
  'deleting',
] as const;
export const DOCUMENT_STAGES = ['load', 'split', 'embed', 'extract', 'store'] as const;
export const DOCUMENT_SOURCES = ['upload', 'text', 'url', 'api'] as const;

export type DocumentStatus = (typeof DOCUMENT_STATUSES)[number];
export type DocumentStage = (typeof DOCUMENT_STAGES)[number];

/** Something that a document holds and that could not be read. */
export interface DocumentWarning {
  /** `scanned_pages`, for instance. */
  code: string;
  message: string;
  pages?: number[];
}

@Entity('documents')
export class Document {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'tenant_id' })
  tenantId!: string;

  @Column('uuid', { name: 'kb_id' })
  kbId!: string;

  @Column('text')
  title!: string;

  @Column('text')
  source!: (typeof DOCUMENT_SOURCES)[number];

  @Column('text', { name: 'source_url', nullable: true })
  sourceUrl!: string | null;

  /** Where a web page says that it belongs. */
  @Column('text', { name: 'canonical_url', nullable: true })
  canonicalUrl!: string | null;

  @Column('text', { name: 'file_name', nullable: true })
  fileName!: string | null;

  @Column('text', { name: 'mime_type' })
  mimeType!: string;

  @Column('bigint', { name: 'size_bytes', transformer: bigintAsNumber })
  sizeBytes!: number;

  /** What it is a version of: an address, a file's path, whatever its owner calls it. Unique in its knowledge base. */
  @Column('text', { name: 'source_id', nullable: true })
  sourceId!: string | null;

  /** The job that has brought it in, of an import of many. */
  @Column('uuid', { name: 'job_id', nullable: true })
  jobId!: string | null;

  /** Hexadecimal; unique in its knowledge base. Null: a web page that has not been fetched yet. */
  @Column('text', { name: 'content_sha256', nullable: true })
  contentSha256!: string | null;

  /** Of the newest content. */
  @Column('integer', { default: 1 })
  version!: number;

  /** The version that is searchable; 0: none. */
  @Column('integer', { name: 'indexed_version', default: 0 })
  indexedVersion!: number;

  /** More is earlier, among what its tenant has waiting. */
  @Column('smallint', { default: 0 })
  priority!: number;

  /** What was not read of it, although it is ready. */
  @Column('jsonb', { default: [] })
  warnings!: DocumentWarning[];

  @Column('jsonb', { default: {} })
  metadata!: Record<string, unknown>;

  @Column('text', { default: 'queued' })
  status!: DocumentStatus;

  @Column('text', { nullable: true })
  stage!: DocumentStage | null;

  /** 0 to 1. */
  @Column('real', { default: 0 })
  progress!: number;

  @Column('text', { name: 'error_code', nullable: true })
  errorCode!: string | null;

  @Column('text', { name: 'error_message', nullable: true })
  errorMessage!: string | null;

  @Column('integer', { default: 0 })
  attempts!: number;

  @Column('integer', { name: 'chunk_count', default: 0 })
  chunkCount!: number;

  /** Estimated. */
  @Column('integer', { name: 'token_count', default: 0 })
  tokenCount!: number;

  /** Whether only those who are listed may read it, of all who read its knowledge base. */
  @Column('boolean', { default: false })
  restricted!: boolean;

  @Column('uuid', { name: 'created_by', nullable: true })
  createdBy!: string | null;

  /** The API token on whose budget it is ingested. */
  @Column('uuid', { name: 'token_id', nullable: true })
  tokenId!: string | null;

  @CreateDateColumn({ type: 'timestamptz', name: 'created_at' })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz', name: 'updated_at' })
  updatedAt!: Date;
}

/**
 * A new place for content: by tenant and by what it is. No two uploads share one, so deleting what nothing refers to
 * any more cannot take what somebody else has just stored.
 */
export const newStorageKey = (kb: { tenantId: string; id: string }, sha256: string): string =>
  `${kb.tenantId}/${kb.id}/${sha256}-${uuidv7()}`;
