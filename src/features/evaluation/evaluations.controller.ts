import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query, Res } from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import {
  type CreateEvaluation,
  type ListEvaluations,
  type ListResults,
  createEvaluationSchema,
  evaluationPageSchema,
  evaluationResultPageSchema,
  evaluationSchema,
  listEvaluationsQuery,
  listResultsQuery,
  toEvaluation,
  toResult,
} from './evaluations.dto.js';
import { EvaluationsService } from './evaluations.service.js';

const ApiEvaluationParam = (): MethodDecorator =>
  ApiParam({ name: 'evaluation', description: 'Id of the evaluation' });

@ApiTags('Evaluations')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/evaluations')
export class EvaluationsController {
  constructor(private readonly evaluations: EvaluationsService) {}

  @Get()
  @RequirePermission('kb:read')
  @ApiOperation({
    summary: 'List evaluations with their figures',
    description: 'With `question_set` those that asked the same questions, to be compared side by side.',
  })
  @ApiOkResponse({ standardSchema: evaluationPageSchema })
  @ApiProblems(422)
  async list(@Param('kb') kb: string, @Query({ schema: listEvaluationsQuery }) query: ListEvaluations) {
    return toPage(await this.evaluations.list(kb, query), query, toEvaluation);
  }

  @Post()
  @HttpCode(202)
  @RequirePermission('kb:update', { asksAgents: false })
  @ApiOperation({
    summary: 'Ask questions whose answers are known, and measure',
    description:
      'Needs query:run, too. All questions are asked in each of the variants, one after the other, in the background and with ' +
      'the rights that whoever starts it has by then. Each counts and costs as a question does; none is answered from ' +
      'those that are kept. Runs by different settings over the same questions can be compared.',
  })
  @ApiAcceptedResponse({
    standardSchema: evaluationSchema,
    headers: { location: { schema: { type: 'string' }, description: 'The evaluation' } },
  })
  @ApiProblems(409, 422)
  async create(
    @Param('tenant') tenant: string,
    @Param('kb') kb: string,
    @Body({ schema: createEvaluationSchema }) body: CreateEvaluation,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    const evaluation = toEvaluation(await this.evaluations.create(kb, body));
    void reply.header('location', `/api/v1/tenants/${tenant}/kbs/${kb}/evaluations/${evaluation.id}`);
    return evaluation;
  }

  @Get(':evaluation')
  @ApiEvaluationParam()
  @RequirePermission('kb:read')
  @ApiOperation({ summary: 'Read an evaluation: how far it is, and its figures' })
  @ApiOkResponse({ standardSchema: evaluationSchema })
  async get(@Param('kb') kb: string, @Param('evaluation', IdParam) id: string) {
    return toEvaluation(await this.evaluations.get(kb, id));
  }

  @Get(':evaluation/results')
  @ApiEvaluationParam()
  @RequirePermission('kb:read')
  @ApiOperation({
    summary: 'What came of each question',
    description: 'For whoever has started the evaluation, and for those who see everything of the tenant.',
  })
  @ApiOkResponse({ standardSchema: evaluationResultPageSchema })
  @ApiProblems(422)
  async results(
    @Param('kb') kb: string,
    @Param('evaluation', IdParam) id: string,
    @Query({ schema: listResultsQuery }) query: ListResults,
  ) {
    return toPage(await this.evaluations.results(kb, id, query), query, toResult);
  }

  @Post(':evaluation/cancel')
  @HttpCode(200)
  @ApiEvaluationParam()
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'Stop an evaluation; what was asked by then stays, with its figures' })
  @ApiOkResponse({ standardSchema: evaluationSchema })
  @ApiProblems(409)
  async cancel(@Param('kb') kb: string, @Param('evaluation', IdParam) id: string) {
    return toEvaluation(await this.evaluations.cancel(kb, id));
  }

  @Delete(':evaluation')
  @HttpCode(204)
  @ApiEvaluationParam()
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'Delete an evaluation with its results; one that has not ended is stopped' })
  @ApiNoContentResponse()
  async delete(@Param('kb') kb: string, @Param('evaluation', IdParam) id: string) {
    await this.evaluations.delete(kb, id);
  }
}
