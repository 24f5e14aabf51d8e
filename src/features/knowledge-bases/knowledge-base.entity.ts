import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';
import { bigintAsNumber } from '../../foundation/database/column-transformers.js';
import type { KnowledgeBaseConfig } from './knowledge-base-config.js';
import type { Language } from './languages.js';

@Entity('knowledge_bases')
export class KnowledgeBase {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'tenant_id' })
  tenantId!: string;

  @Column('text')
  name!: string;

  @Column('text')
  slug!: string;

  @Column('text', { default: '' })
  description!: string;

  /** Only what this knowledge base sets itself. */
  @Column('jsonb', { default: {} })
  config!: KnowledgeBaseConfig;

  /** What its texts are in, as somebody has said. */
  @Column('text', { default: 'english' })
  language!: Language;

  /** What the keyword index is made with: the language, as soon as it has been made anew after a change. */
  @Column('text', { name: 'text_search_configuration', default: 'english' })
  indexedLanguage!: Language;

  /** The model of the stored vectors; null until the first document is stored. */
  @Column('text', { name: 'embedding_model', nullable: true })
  embeddingModel!: string | null;

  @Column('boolean', { name: 'is_active', default: true })
  isActive!: boolean;

  /** Whether everybody in the tenant sees it, or only those whom a role was granted on it. */
  @Column('text', { default: 'tenant' })
  visibility!: 'tenant' | 'granted';

  /** Documents that not everybody may read who reads this knowledge base. */
  @Column('integer', { name: 'restricted_count', default: 0 })
  restrictedCount!: number;

  @Column('integer', { name: 'document_count', default: 0 })
  documentCount!: number;

  @Column('integer', { name: 'chunk_count', default: 0 })
  chunkCount!: number;

  /** Of its graph. */
  @Column('integer', { name: 'entity_count', default: 0 })
  entityCount!: number;

  @Column('integer', { name: 'relation_count', default: 0 })
  relationCount!: number;

  @Column('bigint', { name: 'storage_bytes', default: 0, transformer: bigintAsNumber })
  storageBytes!: number;

  /** While true, no ingestion begins. */
  @Column('boolean', { name: 'ingestion_paused', default: false })
  ingestionPaused!: boolean;

  /** The embedding model that all documents are being indexed for anew, until they are swapped at once. */
  @Column('text', { name: 'reindexing_to', nullable: true })
  reindexingTo!: string | null;

  @Column('uuid', { name: 'created_by', nullable: true })
  createdBy!: string | null;

  @CreateDateColumn({ type: 'timestamptz', name: 'created_at' })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz', name: 'updated_at' })
  updatedAt!: Date;
}
