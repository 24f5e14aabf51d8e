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

  @Column('text', { name: 'file_name', nullable: true })
  fileName!: string | null;

  @Column('text', { name: 'mime_type' })
  mimeType!: string;

  @Column('bigint', { name: 'size_bytes', transformer: bigintAsNumber })
  sizeBytes!: number;

  /** Hexadecimal; unique in its knowledge base. */
  @Column('text', { name: 'content_sha256' })
  contentSha256!: string;

  @Column('integer', { default: 1 })
  version!: number;

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

/** Where the original of a document is stored. */
export const storageKey = (document: Pick<Document, 'tenantId' | 'kbId' | 'id'>): string =>
  `${document.tenantId}/${document.kbId}/${document.id}`;
