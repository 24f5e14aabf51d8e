import { Controller, HttpCode, Post, Res } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { jobSchema, toJob } from '../../core/jobs/jobs.dto.js';
import { StorageSweepService } from './storage-sweep.service.js';

@ApiTags('Platform')
@Controller('platform/storage')
export class StorageSweepController {
  constructor(
    private readonly sweep: StorageSweepService,
    private readonly jobs: BackgroundJobs,
  ) {}

  @Post('sweep')
  @HttpCode(202)
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Delete stored files that belong to no document, as it is done every day',
    description:
      'The result of the job counts the files that were `checked`, those that were `deleted` with their `bytes`, and ' +
      'the originals of documents that are `missing`.',
  })
  @ApiAcceptedResponse({
    standardSchema: jobSchema,
    headers: { location: { schema: { type: 'string' }, description: 'The job' } },
  })
  async request(@Res({ passthrough: true }) reply: FastifyReply) {
    const id = await this.sweep.request();
    void reply.header('location', `/api/v1/jobs/${id}`);
    return toJob(await this.jobs.get(id));
  }
}
