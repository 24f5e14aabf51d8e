import { Controller, HttpCode, Param, Post, Res } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { jobSchema, toJob } from '../../core/jobs/jobs.dto.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { knowledgeBaseSchema, toKnowledgeBase } from '../knowledge-bases/knowledge-bases.dto.js';
import { KbIngestionService } from './kb-ingestion.service.js';

@ApiTags('Knowledge bases')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb')
export class KbIngestionController {
  constructor(
    private readonly ingestion: KbIngestionService,
    private readonly jobs: BackgroundJobs,
  ) {}

  @Post('ingestion/pause')
  @HttpCode(200)
  @RequirePermission('kb:update')
  @ApiOperation({
    summary: 'Let no further ingestion begin',
    description: 'Documents that are being ingested go on; those that wait do so until it is resumed.',
  })
  @ApiOkResponse({ standardSchema: knowledgeBaseSchema })
  async pause(@Param('kb') kb: string) {
    return toKnowledgeBase(await this.ingestion.pause(kb));
  }

  @Post('ingestion/resume')
  @HttpCode(200)
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'Let ingestions begin again' })
  @ApiOkResponse({ standardSchema: knowledgeBaseSchema })
  async resume(@Param('kb') kb: string) {
    return toKnowledgeBase(await this.ingestion.resume(kb));
  }

  @Post('reindex')
  @HttpCode(202)
  @RequirePermission('kb:update')
  @ApiOperation({
    summary: 'Ingest all documents again, as after a change of settings or of the embedding model',
    description:
      'Each document is searchable as before until its new chunks are swapped in. Where the installation’s embedding ' +
      'model is another than that of the stored vectors, all documents are swapped at once when the last has been ' +
      'ingested or has failed; those that failed are searchable no longer.',
  })
  @ApiAcceptedResponse({
    standardSchema: jobSchema,
    headers: { location: { schema: { type: 'string' }, description: 'The job' } },
  })
  async reindex(@Param('kb') kb: string, @Res({ passthrough: true }) reply: FastifyReply) {
    const id = await this.ingestion.reindex(kb);
    void reply.header('location', `/api/v1/jobs/${id}`);
    return toJob(await this.jobs.get(id));
  }
}
