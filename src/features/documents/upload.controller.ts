import { Controller, HttpCode, Post, Query, Req } from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiConsumes,
  ApiHeader,
  ApiOperation,
  ApiQuery,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { kbsNamedBeside } from '../../core/authorization/kb-of-request.js';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { parseFields } from '../../foundation/http/validation.pipe.js';
import { DocumentSourcesService } from './document-sources.service.js';
import { UPLOAD_FIELDS, toUploadResult } from './documents.controller.js';
import { createFromUrlSchema, uploadResultSchema } from './documents.dto.js';
import { uploadParts } from './upload-parts.js';

const uploadQuery = z.strictObject({
  tenant: z.string().max(63).optional(),
  kb: z.string().max(200).optional(),
});

/** Beside the fields of the ordinary route the tenant, which the body may name here. */
const bodySchema = createFromUrlSchema.extend({ tenant_id: z.string().max(63).optional() });

/** One address for all uploads, whatever the tenant and the knowledge base. */
@ApiTags('Documents')
@Controller('upload')
export class UploadController {
  constructor(
    private readonly sources: DocumentSourcesService,
    private readonly quotas: QuotasService,
  ) {}

  @Post()
  @HttpCode(202)
  @RequirePermission('document:create', { kbBesidePath: true })
  @ApiOperation({
    summary: 'Upload files, or add a page of the web',
    description:
      'As the routes of a knowledge base do, for clients that know no more than one address. The tenant is named by ' +
      '`tenant`, X-Tenant-ID or the token; the knowledge base by `kb` or X-KB-ID, unless there is only one. A page is ' +
      'named by the field `url`, in a form without files or in JSON.',
  })
  @ApiQuery({ name: 'tenant', required: false, description: 'Id or name of the tenant' })
  @ApiQuery({ name: 'kb', required: false, description: 'Id or slug of the knowledge base' })
  @ApiHeader({ name: 'X-Tenant-ID', required: false, description: 'Id or name of the tenant' })
  @ApiHeader({ name: 'X-KB-ID', required: false, description: 'Id or slug of the knowledge base' })
  @ApiConsumes('multipart/form-data', 'application/json')
  @ApiBody({
    schema: {
      type: 'object',
      properties: { ...UPLOAD_FIELDS, url: { type: 'string', description: 'In the place of files' } },
    },
  })
  @ApiAcceptedResponse({ standardSchema: uploadResultSchema })
  @ApiProblems(400, 404, 409, 413, 415, 422)
  async upload(
    @Req() request: FastifyRequest,
    @Query({ schema: uploadQuery }) _query: z.infer<typeof uploadQuery>,
  ) {
    const kb = await this.sources.knowledgeBaseOf(kbsNamedBeside(request));
    if (request.isMultipart() || request.body === undefined || request.body === null) {
      const largest = await this.quotas.largestUpload();
      return toUploadResult(
        await this.sources.createFromParts(kb, uploadParts(request, largest, { urls: true })),
      );
    }
    const { tenant_id: _tenant, ...body } = parseFields(bodySchema, request.body);
    return toUploadResult([{ fileName: null, result: await this.sources.createFromUrl(kb, body) }]);
  }
}
