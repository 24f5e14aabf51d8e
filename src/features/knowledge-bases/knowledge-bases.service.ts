import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import type { KnowledgeBase } from './knowledge-base.entity.js';
import {
  type CreateKnowledgeBase,
  type ListKnowledgeBases,
  type UpdateKnowledgeBase,
  slugOf,
} from './knowledge-bases.dto.js';
import { KnowledgeBasesRepository } from './knowledge-bases.repository.js';

@Injectable()
export class KnowledgeBasesService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesRepository,
    private readonly storage: FileStorage,
  ) {}

  list(query: ListKnowledgeBases): Promise<Page<KnowledgeBase>> {
    return this.database.run(tx => this.knowledgeBases.list(tx, query));
  }

  /** @throws Problem 409 `name_taken` */
  create(input: CreateKnowledgeBase): Promise<KnowledgeBase> {
    const id = uuidv7();
    return this.database.run(async tx => {
      const inserted = await this.knowledgeBases.insert(tx, {
        id,
        tenantId: this.context.tenant.id,
        name: input.name,
        // A name without any Latin letter or digit still gets an address.
        slug: input.slug ?? (slugOf(input.name) || `kb-${id.slice(-12)}`),
        description: input.description,
        config: input.config,
        createdBy: this.context.userId,
      });
      if (!inserted) throw nameTaken();
      return this.require(tx, id);
    });
  }

  get(reference: string): Promise<KnowledgeBase> {
    return this.database.run(tx => this.require(tx, reference));
  }

  /** @param reference id or slug. @throws Problem 404 */
  async require(tx: Tx, reference: string): Promise<KnowledgeBase> {
    const kb = await this.knowledgeBases.find(tx, reference);
    if (!kb) throw Problem.notFound('knowledge base');
    return kb;
  }

  update(reference: string, input: UpdateKnowledgeBase): Promise<KnowledgeBase> {
    return this.database.run(async tx => {
      const kb = await this.require(tx, reference);
      const { name = kb.name, slug = kb.slug } = input;
      if (await this.knowledgeBases.isTaken(tx, { id: kb.id, name, slug })) throw nameTaken();
      await this.knowledgeBases.update(tx, kb.id, {
        name,
        slug,
        ...(input.description !== undefined && { description: input.description }),
        ...(input.config !== undefined && { config: input.config }),
        ...(input.is_active !== undefined && { isActive: input.is_active }),
      });
      return this.require(tx, kb.id);
    });
  }

  async delete(reference: string): Promise<void> {
    const kb = await this.database.run(async tx => {
      const found = await this.require(tx, reference);
      await this.knowledgeBases.delete(tx, found.id);
      return found;
    });
    await this.storage.deleteAll(`${kb.tenantId}/${kb.id}`);
  }

  statistics(reference: string): Promise<{ kb: KnowledgeBase; documentsByStatus: Record<string, number> }> {
    return this.database.run(async tx => {
      const kb = await this.require(tx, reference);
      return { kb, documentsByStatus: await this.knowledgeBases.documentsByStatus(tx, kb.id) };
    });
  }
}

const nameTaken = (): Problem =>
  Problem.conflict('name_taken', 'Another knowledge base of this tenant has this name or slug.');
