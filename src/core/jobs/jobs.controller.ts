import { Controller, Get, Headers, HttpCode, Param, Post, Res, StreamableFile } from '@nestjs/common';
import {
  ApiHeader,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiProduces,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { EVENT_STREAM_HEADERS, EVENT_STREAM_TYPE } from '../../foundation/http/event-stream.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { RequirePermission } from '../authorization/require-permission.js';
import { BackgroundJobs } from './background-jobs.service.js';
import { JobStreams } from './job-streams.service.js';
import { jobSchema, toJob } from './jobs.dto.js';
import { JobsService } from './jobs.service.js';

const ApiJobParam = (): MethodDecorator =>
  ApiParam({ name: 'job', description: 'Id of the job, or of a document whose ingestion it is' });

@ApiTags('Jobs')
@Controller('jobs')
export class JobsController {
  constructor(
    private readonly jobs: BackgroundJobs,
    private readonly service: JobsService,
    private readonly streams: JobStreams,
  ) {}

  @Get(':job')
  @ApiJobParam()
  @RequirePermission('user:read', { tokens: true })
  @ApiOperation({
    summary: 'Read a job: how far it is, and what came of it',
    description:
      'For whoever asked for it, and for those who have the permission that it needed. A document’s ingestion is a job ' +
      'under the document’s own id, for those who may read the document.',
  })
  @ApiOkResponse({ standardSchema: jobSchema })
  @ApiProblems(404)
  async get(@Param('job', IdParam) id: string) {
    return toJob(await this.jobs.get(id));
  }

  @Get(':job/events')
  @ApiJobParam()
  @RequirePermission('user:read', { tokens: true })
  @ApiOperation({
    summary: 'Follow a job: server-sent events',
    description:
      'Events `progress` with the job (as `GET /jobs/{job}` answers it) now and whenever it changes, at most twice a ' +
      'second, and one `end` with how it ended, after which the stream closes. A stream that closes without `end` (after ' +
      'an hour at the latest) is to be opened again. For whom the job is.',
  })
  @ApiHeader({
    name: 'Last-Event-ID',
    required: false,
    description: 'As browsers send it: after `end` the answer is 204, which tells them to come back no more.',
  })
  @ApiProduces('text/event-stream')
  @ApiOkResponse({ schema: { type: 'string', example: 'event: progress\nid: 1\ndata: {"id":"…"}\n\n' } })
  @ApiNoContentResponse({ description: 'The end of it was told before' })
  @ApiProblems(404)
  async events(
    @Param('job', IdParam) id: string,
    @Headers('last-event-id') lastEventId: string | undefined,
    @RequestSignal() signal: AbortSignal,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<StreamableFile | undefined> {
    const events = await this.streams.start(id, lastEventId, signal);
    if (!events) {
      void reply.code(204);
      return undefined;
    }
    void reply.headers({
      ...EVENT_STREAM_HEADERS,
      // A server that drains would wait for the connection, which says nothing more.
      connection: 'close',
    });
    return new StreamableFile(events, { type: EVENT_STREAM_TYPE });
  }

  @Post(':job/cancel')
  @HttpCode(200)
  @ApiJobParam()
  @RequirePermission('user:update', { tokens: true })
  @ApiOperation({
    summary: 'Stop a job, and what it has put to work',
    description:
      'Where its kind allows that. What was done by then stays. For whom the job is; a document’s ingestion has ' +
      '`POST …/documents/{document}/cancel`.',
  })
  @ApiOkResponse({ standardSchema: jobSchema })
  @ApiProblems(404, 409)
  async cancel(@Param('job', IdParam) id: string) {
    return toJob(await this.service.cancel(id));
  }
}
