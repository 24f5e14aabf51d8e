import { Body, Controller, HttpCode, Param, Post, Res } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { jobSchema, toJob } from '../../core/jobs/jobs.dto.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { DocumentSourcesService } from './document-sources.service.js';
import {
  type CreateFromUrl,
  type ImportUrls,
  createFromUrlSchema,
  documentSchema,
  importUrlsSchema,
  toDocument,
} from './documents.dto.js';

const startedSchema = jobSchema.extend({ job_id: z.uuid() }).meta({ id: 'StartedWebImport' });

@ApiTags('Documents')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/documents')
export class WebDocumentsController {
  constructor(
    private readonly sources: DocumentSourcesService,
    private readonly jobs: BackgroundJobs,
  ) {}

  @Post('url')
  @HttpCode(202)
  @RequirePermission('document:create')
  @ApiOperation({
    summary: 'Add a page of the web',
    description:
      'The page is fetched when it is ingested; of a web page, what is meant to be read is taken. The same address again ' +
      'has it fetched again, and makes a new version where it has changed. Only public hosts are asked.',
  })
  @ApiAcceptedResponse({ standardSchema: documentSchema })
  @ApiProblems(409, 422)
  async createFromUrl(
    @Param('kb') kbReference: string,
    @Body({ schema: createFromUrlSchema }) body: CreateFromUrl,
  ) {
    const kb = await this.sources.knowledgeBase(kbReference);
    return toDocument(await this.sources.createFromUrl(kb, body));
  }

  @Post('urls')
  @HttpCode(202)
  @RequirePermission('document:create')
  @ApiOperation({
    summary: 'Add pages of the web: a list of addresses, or those of a sitemap',
    description:
      'A job makes a document of each, and has ended when all of them have been ingested. Its result says how many were ' +
      'accepted, and names those that were not.',
  })
  @ApiAcceptedResponse({ standardSchema: startedSchema })
  @ApiProblems(422)
  async importUrls(
    @Param('kb') kb: string,
    @Body({ schema: importUrlsSchema }) body: ImportUrls,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    const id = await this.sources.importUrls(kb, body);
    void reply.header('location', `/api/v1/jobs/${id}`);
    return { job_id: id, ...toJob(await this.jobs.get(id)) };
  }
}
