import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { KbGrantsService } from './kb-grants.service.js';
import type { KnowledgeBase } from './knowledge-base.entity.js';
import {
  type CreateKnowledgeBase,
  type ListKnowledgeBases,
  type UpdateKnowledgeBase,
  slugOf,
} from './knowledge-bases.dto.js';
import { KEYWORD_INDEX_JOB, type KeywordIndexPayload } from './languages.js';
import { KnowledgeBasesRepository, type ReadableKbs } from './knowledge-bases.repository.js';

@Injectable()
export class KnowledgeBasesService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesRepository,
    private readonly storage: FileStorage,
    private readonly authorization: AuthorizationService,
    private readonly features: FeaturesService,
    private readonly audit: AuditService,
    private readonly grants: KbGrantsService,
    private readonly jobs: BackgroundJobs,
  ) {}

  async list(query: ListKnowledgeBases): Promise<Page<KnowledgeBase>> {
    const readable = await this.readable();
    return this.database.run(async tx => {
      const { items, total } = await this.knowledgeBases.list(tx, query, readable);
      return { items: await this.asSeen(tx, items), total };
    });
  }

  /** @throws Problem 409 `name_taken` */
  async create(input: CreateKnowledgeBase): Promise<KnowledgeBase> {
    const id = uuidv7();
    const visibility = input.visibility ?? (await this.features.get('default_kb_visibility'));
    // The system sees what it makes, whoever it is granted to.
    const isSystem = this.context.principal.kind === 'system';
    const ownRole = visibility === 'granted' && !isSystem ? await this.grants.roleToKeep(null) : null;
    return this.database.run(async tx => {
      const kb = {
        id,
        tenantId: this.context.tenant.id,
        name: input.name,
        // A name without any Latin letter or digit still gets an address.
        slug: input.slug ?? (slugOf(input.name) || `kb-${id.slice(-12)}`),
        description: input.description,
        config: input.config,
        language: input.language,
        indexedLanguage: input.language,
        createdBy: isSystem ? null : this.context.userId,
      };
      if (!(await this.knowledgeBases.insert(tx, kb))) throw nameTaken();
      // Open at first: whoever closes it must be able to see what comes of it.
      if (ownRole) await this.grants.keep(tx, id, ownRole);
      if (visibility === 'granted') await this.knowledgeBases.update(tx, id, { visibility });
      this.audit.record(tx, {
        action: 'kb.created',
        resource: { type: 'kb', id },
        details: { name: kb.name, slug: kb.slug, visibility, config: kb.config, language: kb.language },
      });
      return this.require(tx, id);
    });
  }

  get(reference: string): Promise<KnowledgeBase> {
    return this.database.run(async tx => {
      const [kb] = await this.asSeen(tx, [await this.require(tx, reference)]);
      return kb as KnowledgeBase;
    });
  }

  /** The only one that the principal sees, whatever it may do there; null where there are others, or none. */
  only(): Promise<KnowledgeBase | null> {
    return this.database.run(async tx => {
      const query = { page: 1, page_size: 1, sort: 'created_at' } as const;
      const { items, total } = await this.knowledgeBases.list(tx, query, 'all');
      return total === 1 ? (items[0] ?? null) : null;
    });
  }

  /** @param reference id or slug. @throws Problem 404 */
  async require(tx: Tx, reference: string): Promise<KnowledgeBase> {
    const kb = await this.knowledgeBases.find(tx, reference);
    if (!kb) throw Problem.notFound('knowledge base');
    return kb;
  }

  /** The same, which nobody else changes until the transaction ends. */
  private async requireLocked(
    tx: Tx,
    reference: string,
    options: { renames: boolean },
  ): Promise<KnowledgeBase> {
    const { id } = await this.require(tx, reference);
    await this.knowledgeBases.lock(tx, id, options);
    return this.require(tx, id);
  }

  /** @throws Problem 404, 409 `name_taken`, 412 */
  async update(
    reference: string,
    input: UpdateKnowledgeBase,
    ifMatch: IfMatch = null,
  ): Promise<KnowledgeBase> {
    const ownRole = input.visibility === 'granted' ? await this.grants.roleToKeep(reference) : null;
    return this.database.run(async tx => {
      const before = await this.requireLocked(tx, reference, { renames: input.slug !== undefined });
      requireMatch(ifMatch, before.updatedAt);
      if (ownRole && before.visibility === 'tenant') await this.grants.keep(tx, before.id, ownRole);
      const changes = {
        ...(input.name !== undefined && { name: input.name }),
        ...(input.slug !== undefined && { slug: input.slug }),
        ...(input.description !== undefined && { description: input.description }),
        ...(input.config !== undefined && { config: input.config }),
        ...(input.language !== undefined && {
          language: input.language,
          // There is no keyword index yet.
          ...(before.chunkCount === 0 && { indexedLanguage: input.language }),
        }),
        ...(input.is_active !== undefined && { isActive: input.is_active }),
        ...(input.visibility !== undefined && { visibility: input.visibility }),
      };
      if (!(await this.knowledgeBases.update(tx, before.id, changes))) throw nameTaken();
      const kb = await this.require(tx, before.id);
      if (kb.language !== before.language && kb.language !== kb.indexedLanguage)
        await this.reindexKeywords(tx, kb.id);
      if (kb.slug !== before.slug || kb.visibility !== before.visibility) {
        await this.authorization.policyChanged(tx, this.domain);
      }
      this.audit.record(tx, {
        action: 'kb.updated',
        resource: { type: 'kb', id: kb.id },
        details: differences(before, kb),
      });
      const [seen] = await this.asSeen(tx, [kb]);
      return seen as KnowledgeBase;
    });
  }

  async delete(reference: string): Promise<void> {
    const kb = await this.database.run(async tx => {
      const found = await this.require(tx, reference);
      await this.knowledgeBases.delete(tx, found.id);
      await this.authorization.policyChanged(tx, this.domain);
      this.audit.record(tx, {
        action: 'kb.deleted',
        resource: { type: 'kb', id: found.id },
        details: { name: found.name, slug: found.slug, document_count: found.documentCount },
      });
      return found;
    });
    await this.storage.forgetAll(`${kb.tenantId}/${kb.id}`);
  }

  statistics(reference: string): Promise<{ kb: KnowledgeBase; documentsByStatus: Record<string, number> }> {
    return this.database.run(async tx => {
      const [kb] = await this.asSeen(tx, [await this.require(tx, reference)]);
      const documentsByStatus = await this.knowledgeBases.documentsByStatus(tx, (kb as KnowledgeBase).id);
      return { kb: kb as KnowledgeBase, documentsByStatus };
    });
  }

  private async reindexKeywords(tx: Tx, kbId: string): Promise<void> {
    await this.jobs.enqueue(tx, {
      kind: KEYWORD_INDEX_JOB,
      payload: { kbId } satisfies KeywordIndexPayload,
      tenantId: this.context.tenant.id,
      permission: 'kb:update',
    });
  }

  private get domain(): string {
    return tenantDomain(this.context.tenant.id);
  }

  /** A role in the tenant opens what is open, a grant its own knowledge base. */
  private async readable(): Promise<ReadableKbs> {
    const { subject, tenant, access } = this.context;
    const open = await this.authorization.can(subject, this.domain, 'kb:read');
    if (open && access.all) return 'all';
    return { open, granted: await this.authorization.kbsGranted(subject, tenant.id, 'kb:read') };
  }

  /** The stored statistics count every document; whoever may not read some of them is shown what they see. */
  private async asSeen(tx: Tx, kbs: KnowledgeBase[]): Promise<KnowledgeBase[]> {
    const partly = this.context.access.all ? [] : kbs.filter(kb => kb.restrictedCount > 0);
    if (partly.length === 0) return kbs;
    const seen = await this.knowledgeBases.seenDocuments(
      tx,
      partly.map(({ id }) => id),
    );
    const nothing = { documentCount: 0, chunkCount: 0, entityCount: 0, relationCount: 0, storageBytes: 0 };
    return kbs.map(kb => (partly.includes(kb) ? Object.assign(kb, nothing, seen.get(kb.id)) : kb));
  }
}

/** The fields that a change has changed, before and after. */
function differences(before: KnowledgeBase, after: KnowledgeBase): Record<string, unknown> {
  const fields = ['name', 'slug', 'description', 'config', 'language', 'isActive', 'visibility'] as const;
  const changed = fields.filter(field => JSON.stringify(before[field]) !== JSON.stringify(after[field]));
  const of = (kb: KnowledgeBase) =>
    Object.fromEntries(changed.map(field => [field === 'isActive' ? 'is_active' : field, kb[field]]));
  return { before: of(before), after: of(after) };
}

const nameTaken = (): Problem =>
  Problem.conflict('name_taken', 'Another knowledge base of this tenant has this name or slug.');
