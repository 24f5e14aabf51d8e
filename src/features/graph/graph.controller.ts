import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import {
  type ListEntities,
  type ListRelations,
  type Neighbours,
  type PageOfSources,
  entityDetailSchema,
  entityPageSchema,
  entityQuery,
  graphSummarySchema,
  listEntitiesQuery,
  listRelationsQuery,
  neighbourhoodSchema,
  neighboursQuery,
  relationPageSchema,
  toEntity,
  toEntityDetail,
  toRelation,
} from './graph.dto.js';
import { GraphService } from './graph.service.js';

const ApiEntityParam = (): MethodDecorator => ApiParam({ name: 'entity', format: 'uuid' });

const ONLY_WHAT_IS_READ =
  'Everything is made from the documents that one may read: what only others name is not there.';

@ApiTags('Knowledge graph')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/graph')
export class GraphController {
  constructor(private readonly graph: GraphService) {}

  @Get()
  @RequirePermission('graph:read')
  @ApiOperation({
    summary: 'Count what the knowledge graph holds, and what it was made by',
    description: ONLY_WHAT_IS_READ,
  })
  @ApiOkResponse({ standardSchema: graphSummarySchema })
  async summary(@Param('kb') kb: string) {
    const summary = await this.graph.summary(kb);
    return {
      mode: summary.mode,
      entity_count: summary.entities,
      relation_count: summary.relations,
      documents: { names: summary.byNames, model: summary.byModel, none: summary.without },
      fallback_chunks: summary.fallbackChunks,
      left_out_entities: summary.leftOutEntities,
      left_out_relations: summary.leftOutRelations,
    };
  }

  @Get('entities')
  @RequirePermission('graph:read')
  @ApiOperation({
    summary: 'List the entities of a knowledge graph',
    description: `\`search\` finds parts of names. ${ONLY_WHAT_IS_READ}`,
  })
  @ApiOkResponse({ standardSchema: entityPageSchema })
  @ApiProblems(422)
  async listEntities(@Param('kb') kb: string, @Query({ schema: listEntitiesQuery }) query: ListEntities) {
    return toPage(await this.graph.listEntities(kb, query), query, toEntity);
  }

  @Get('entities/:entity')
  @ApiEntityParam()
  @RequirePermission('graph:read')
  @ApiOperation({
    summary: 'Read an entity: what is said of it, and the chunks that mention it, page by page',
    description: ONLY_WHAT_IS_READ,
  })
  @ApiOkResponse({ standardSchema: entityDetailSchema })
  @ApiProblems(422)
  async getEntity(
    @Param('kb') kb: string,
    @Param('entity', IdParam) id: string,
    @Query({ schema: entityQuery }) query: PageOfSources,
  ) {
    const { entity, sources } = await this.graph.getEntity(kb, id, query);
    return toEntityDetail(entity, sources, query);
  }

  @Get('entities/:entity/neighbours')
  @ApiEntityParam()
  @RequirePermission('graph:read')
  @ApiOperation({
    summary: 'Read what surrounds an entity: the entities that it is tied to, and the relations between them',
    description: ONLY_WHAT_IS_READ,
  })
  @ApiOkResponse({ standardSchema: neighbourhoodSchema })
  @ApiProblems(422)
  async neighbours(
    @Param('kb') kb: string,
    @Param('entity', IdParam) id: string,
    @Query({ schema: neighboursQuery }) query: Neighbours,
  ) {
    const { nodes, edges } = await this.graph.neighbours(kb, id, query);
    return { nodes: nodes.map(toEntity), edges: edges.map(toRelation) };
  }

  @Get('relations')
  @RequirePermission('graph:read')
  @ApiOperation({ summary: 'List the relations of a knowledge graph', description: ONLY_WHAT_IS_READ })
  @ApiOkResponse({ standardSchema: relationPageSchema })
  @ApiProblems(422)
  async listRelations(@Param('kb') kb: string, @Query({ schema: listRelationsQuery }) query: ListRelations) {
    return toPage(await this.graph.listRelations(kb, query), query, toRelation);
  }
}
