import { Body, Controller, HttpCode, Param, Post } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { UsageOperation } from '../../core/usage/usage-operation.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { toPassage } from '../retrieval/retrieval.dto.js';
import { type QueryRequest, answerSchema, querySchema } from './rag-query.dto.js';
import { RagQueryService } from './rag-query.service.js';

@ApiTags('Search and ask')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/query')
export class RagQueryController {
  constructor(private readonly ragQuery: RagQueryService) {}

  @Post()
  @HttpCode(200)
  @RequirePermission('query:run')
  @UsageOperation('query')
  @ApiOperation({
    summary: 'Ask a question',
    description:
      'Without a chat model the answer is made of quoted sentences. Where the documents do not answer the question, ' +
      '`answered` is false.',
  })
  @ApiOkResponse({ standardSchema: answerSchema })
  @ApiProblems(402, 409, 422, 503)
  async ask(
    @Param('kb') kb: string,
    @Body({ schema: querySchema }) body: QueryRequest,
    @RequestSignal() signal: AbortSignal,
  ) {
    const { answered, answer, citations, passages, kbId, usage, model, latency } = await this.ragQuery.ask(
      kb,
      body,
      signal,
    );
    return {
      answer,
      answered,
      citations,
      passages: passages.map(passage => toPassage(passage, kbId, body.include_text)),
      usage: {
        prompt_tokens: usage.promptTokens,
        completion_tokens: usage.completionTokens,
        credits: usage.credits,
      },
      model,
      latency_ms: { retrieval: round(latency.retrieval), generation: round(latency.generation) },
    };
  }
}

const round = (milliseconds: number): number => Math.round(milliseconds * 10) / 10;
