import { Injectable } from '@nestjs/common';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { type EffectiveConfig, effectiveConfig } from '../../core/tenancy/tenant-config.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { GraphReadingRepository } from './graph-reading.repository.js';
import type { Entity, EntityDetail, GraphSummary, Relation, SourceChunk } from './graph-view.js';
import type { ListEntities, ListRelations, Neighbours, PageOfSources } from './graph.dto.js';

/** An entity with what surrounds it. */
export interface Neighbourhood {
  nodes: Entity[];
  edges: Relation[];
}

/** The graphs of knowledge bases, each as far as whoever asks may read the documents that it was made from. */
@Injectable()
export class GraphService {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly repository: GraphReadingRepository,
  ) {}

  /** @throws Problem 404 */
  async summary(reference: string): Promise<GraphSummary & { mode: EffectiveConfig['graph'] }> {
    const tenant = await this.directory.find(this.context.tenant.id);
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, reference);
      const { graph: mode } = effectiveConfig(tenant?.config ?? {}, kb.config);
      return { mode, ...(await this.repository.summary(tx, kb.id)) };
    });
  }

  /** @throws Problem 404 */
  listEntities(reference: string, query: ListEntities): Promise<Page<Entity>> {
    return this.database.run(async tx => {
      const { id } = await this.knowledgeBases.require(tx, reference);
      return this.repository.listEntities(tx, id, query);
    });
  }

  /** @throws Problem 404 */
  getEntity(
    reference: string,
    entityId: string,
    query: PageOfSources,
  ): Promise<{ entity: EntityDetail; sources: Page<SourceChunk> }> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, reference);
      const entity = await this.repository.findEntity(tx, kb.id, entityId);
      if (!entity) throw Problem.notFound('entity');
      const sources = await this.repository.sourcesOf(tx, entity.id, query.page, query.page_size);
      return { entity, sources };
    });
  }

  /** @throws Problem 404 */
  neighbours(reference: string, entityId: string, { depth, limit }: Neighbours): Promise<Neighbourhood> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, reference);
      if (!(await this.repository.has(tx, kb.id, entityId))) throw Problem.notFound('entity');
      const known = [entityId];
      let frontier = [entityId];
      for (let step = 0; step < depth && frontier.length > 0 && known.length <= limit; step++) {
        frontier = await this.repository.neighbours(tx, frontier, known, limit + 1 - known.length);
        known.push(...frontier);
      }
      const nodes = await this.repository.entitiesOf(tx, known);
      const edges = await this.repository.relationsAmong(tx, kb.id, known);
      return { nodes, edges };
    });
  }

  /** @throws Problem 404 */
  listRelations(reference: string, query: ListRelations): Promise<Page<Relation>> {
    return this.database.run(async tx => {
      const { id } = await this.knowledgeBases.require(tx, reference);
      return this.repository.listRelations(tx, id, query);
    });
  }
}
