import { Controller, Get, Param, Query, Req, Res, StreamableFile } from '@nestjs/common';
import {
  ApiHeader,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiProduces,
  ApiResponse,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Readable } from 'node:stream';
import { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { planDownload } from '../../foundation/http/download-plan.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { Problem } from '../../foundation/http/problem.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { DocumentContentService } from './document-content.service.js';

const contentQuery = z.strictObject({
  tenant: z.string().max(63).optional(),
  version: z.coerce
    .number()
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .optional()
    .describe('One that is still stored [the newest]'),
});

const BINARY = { schema: { type: 'string', format: 'binary' } } as const;

@ApiTags('Documents')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/documents')
export class DocumentContentController {
  constructor(private readonly contents: DocumentContentService) {}

  @Get(':document/content')
  @ApiParam({ name: 'document', description: 'Id of the document' })
  @RequirePermission('document:read')
  @ApiOperation({
    summary: 'Download the original',
    description:
      'Its `ETag` is the SHA-256 of the content. What does not match it any more never arrives whole: the answer ' +
      'breaks off before its end.',
  })
  @ApiHeader({ name: 'Range', required: false, description: 'One range of bytes', example: 'bytes=0-1023' })
  @ApiHeader({ name: 'If-Range', required: false, description: 'The `ETag` that the range belongs to' })
  @ApiHeader({ name: 'If-None-Match', required: false, description: 'The `ETag` of what is there already' })
  @ApiProduces('application/octet-stream')
  @ApiOkResponse(BINARY)
  @ApiResponse({ status: 206, description: 'Partial Content', ...BINARY })
  @ApiResponse({ status: 304, description: 'Not Modified' })
  @ApiProblems(404, 416, 422)
  async content(
    @Param('kb') kb: string,
    @Param('document', IdParam) id: string,
    @Query({ schema: contentQuery }) { version }: z.infer<typeof contentQuery>,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    const original = await this.contents.find(kb, id, version);
    const { contentSha256, sizeBytes, mimeType, downloadName } = original;
    const etag = `"${contentSha256}"`;
    const plan = planDownload(request.method, request.headers, { etag, sizeBytes });
    void reply.headers({ etag, 'accept-ranges': 'bytes', 'cache-control': 'private, no-cache' });
    if (plan.status === 304) {
      void reply.code(304);
      return;
    }
    if (plan.status === 416) {
      throw new Problem(416, 'range_not_satisfiable', 'The content is shorter than that.', {
        headers: { 'content-range': plan.contentRange },
      });
    }
    const range = plan.status === 206 ? plan.range : undefined;
    let content: Readable;
    if (request.method === 'HEAD') {
      await this.contents.requireStored(original);
      content = Readable.from([]);
    } else content = await this.contents.open(original, range);
    if (plan.status === 206) void reply.code(206).header('content-range', plan.contentRange);
    // Never shown inline: an uploaded page must not run in this origin.
    return new StreamableFile(content, {
      type: mimeType,
      length: range ? range.end - range.start + 1 : sizeBytes,
      disposition: `attachment; filename*=UTF-8''${encodeURIComponent(downloadName)}`,
    });
  }
}
