import { Controller, Get, Param } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { RequirePermission } from '../authorization/require-permission.js';
import { BackgroundJobs } from './background-jobs.service.js';
import { jobSchema, toJob } from './jobs.dto.js';

@ApiTags('Jobs')
@Controller('jobs')
export class JobsController {
  constructor(private readonly jobs: BackgroundJobs) {}

  @Get(':job')
  @ApiParam({ name: 'job', description: 'Id of the job' })
  @RequirePermission('user:read', { tokens: true })
  @ApiOperation({
    summary: 'Read a job: how far it is, and what came of it',
    description: 'For whoever asked for it, and for those who have the permission that it needed.',
  })
  @ApiOkResponse({ standardSchema: jobSchema })
  @ApiProblems(404)
  async get(@Param('job', IdParam) id: string) {
    return toJob(await this.jobs.get(id));
  }
}
