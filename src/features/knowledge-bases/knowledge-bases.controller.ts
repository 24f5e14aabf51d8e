import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Put, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { toMegabytes, toPage } from '../../foundation/http/pagination.js';
import {
  type CreateKnowledgeBase,
  type ListKnowledgeBases,
  type UpdateKnowledgeBase,
  createKnowledgeBaseSchema,
  knowledgeBasePageSchema,
  knowledgeBaseSchema,
  listKnowledgeBasesQuery,
  replaceKnowledgeBaseSchema,
  statisticsSchema,
  toKnowledgeBase,
  updateKnowledgeBaseSchema,
} from './knowledge-bases.dto.js';
import { KnowledgeBasesService } from './knowledge-bases.service.js';

/** Documents `{kb}`. */
export const ApiKnowledgeBaseParam = (): MethodDecorator & ClassDecorator =>
  ApiParam({ name: 'kb', description: 'Id or slug of the knowledge base', example: 'product-docs' });

@ApiTags('Knowledge bases')
@ApiTenantParam()
@Controller('tenants/:tenant/kbs')
export class KnowledgeBasesController {
  constructor(private readonly knowledgeBases: KnowledgeBasesService) {}

  @Get()
  @RequirePermission('kb:read')
  @ApiOperation({ summary: 'List knowledge bases' })
  @ApiOkResponse({ standardSchema: knowledgeBasePageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listKnowledgeBasesQuery }) query: ListKnowledgeBases) {
    return toPage(await this.knowledgeBases.list(query), query, toKnowledgeBase);
  }

  @Post()
  @RequirePermission('kb:create')
  @ApiOperation({ summary: 'Create a knowledge base' })
  @ApiCreatedResponse({ standardSchema: knowledgeBaseSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createKnowledgeBaseSchema }) body: CreateKnowledgeBase) {
    return toKnowledgeBase(await this.knowledgeBases.create(body));
  }

  @Get(':kb')
  @ApiKnowledgeBaseParam()
  @RequirePermission('kb:read')
  @ApiOperation({ summary: 'Read a knowledge base' })
  @ApiOkResponse({ standardSchema: knowledgeBaseSchema })
  async get(@Param('kb') kb: string) {
    return toKnowledgeBase(await this.knowledgeBases.get(kb));
  }

  @Get(':kb/stats')
  @ApiKnowledgeBaseParam()
  @RequirePermission('kb:read')
  @ApiOperation({ summary: 'Count what a knowledge base holds' })
  @ApiOkResponse({ standardSchema: statisticsSchema })
  async statistics(@Param('kb') reference: string) {
    const { kb, documentsByStatus } = await this.knowledgeBases.statistics(reference);
    return {
      document_count: kb.documentCount,
      chunk_count: kb.chunkCount,
      entity_count: kb.entityCount,
      relation_count: kb.relationCount,
      storage_bytes: kb.storageBytes,
      storage_mb: toMegabytes(kb.storageBytes),
      documents_by_status: documentsByStatus,
    };
  }

  @Patch(':kb')
  @ApiIfMatch()
  @ApiKnowledgeBaseParam()
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'Change some fields of a knowledge base; `config` is replaced whole' })
  @ApiOkResponse({ standardSchema: knowledgeBaseSchema })
  @ApiProblems(409, 422)
  async update(
    @Param('kb') kb: string,
    @Body({ schema: updateKnowledgeBaseSchema }) body: UpdateKnowledgeBase,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toKnowledgeBase(await this.knowledgeBases.update(kb, body, ifMatch));
  }

  @Put(':kb')
  @ApiIfMatch()
  @ApiKnowledgeBaseParam()
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'Replace the changeable fields of a knowledge base' })
  @ApiOkResponse({ standardSchema: knowledgeBaseSchema })
  @ApiProblems(409, 422)
  async replace(
    @Param('kb') kb: string,
    @Body({ schema: replaceKnowledgeBaseSchema }) body: UpdateKnowledgeBase,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toKnowledgeBase(await this.knowledgeBases.update(kb, body, ifMatch));
  }

  @Delete(':kb')
  @ApiKnowledgeBaseParam()
  @HttpCode(204)
  @RequirePermission('kb:delete')
  @ApiOperation({ summary: 'Delete a knowledge base with its documents' })
  @ApiNoContentResponse()
  async delete(@Param('kb') kb: string) {
    await this.knowledgeBases.delete(kb);
  }
}
