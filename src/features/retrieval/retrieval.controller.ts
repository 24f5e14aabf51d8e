import { Body, Controller, HttpCode, Param, Post } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { UsageOperation } from '../../core/usage/usage-operation.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { type SearchRequest, searchResultSchema, searchSchema, toPassage } from './retrieval.dto.js';
import { RetrievalService } from './retrieval.service.js';

@ApiTags('Search and ask')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/search')
export class RetrievalController {
  constructor(private readonly retrieval: RetrievalService) {}

  @Post()
  @HttpCode(200)
  @RequirePermission('query:run')
  @UsageOperation('search')
  @ApiOperation({
    summary: 'Find passages',
    description:
      'BM25 and vectors, fused, and ordered anew by a rerank model where there is one; or through the graph of the ' +
      'knowledge base.',
  })
  @ApiOkResponse({ standardSchema: searchResultSchema })
  @ApiProblems(402, 409, 422, 503)
  async search(
    @Param('kb') kb: string,
    @Body({ schema: searchSchema }) body: SearchRequest,
    @RequestSignal() signal: AbortSignal,
  ) {
    const started = performance.now();
    const { retrieved, credits } = await this.retrieval.paidSearch(kb, body, signal);
    return {
      passages: retrieved.result.passages.map(passage => toPassage(passage, body.include_text)),
      mode: body.mode,
      graph: retrieved.graph,
      reranked: retrieved.reranked,
      usage: { credits },
      latency_ms: Math.round((performance.now() - started) * 10) / 10,
    };
  }
}
