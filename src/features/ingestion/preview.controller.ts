import { Controller, HttpCode, Param, Post, Req } from '@nestjs/common';
import { ApiBody, ApiConsumes, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { Problem } from '../../foundation/http/problem.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { parseFields } from '../../foundation/http/validation.pipe.js';
import { formParts, noFile } from '../documents/upload-parts.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { previewFieldsSchema, previewResultSchema, previewSchema, toPreview } from './preview.dto.js';
import { type Preview, PreviewService } from './preview.service.js';

const SPLIT_FIELDS = {
  chunk_size: { type: 'integer', minimum: 100, maximum: 8000 },
  chunk_overlap: { type: 'integer', minimum: 0, maximum: 2000 },
  chunk_unit: { type: 'string', enum: ['characters', 'tokens'] },
};

const fieldsOf = (raw: Record<string, unknown>) => parseFields(previewFieldsSchema, raw);

@ApiTags('Documents')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/documents')
export class PreviewController {
  constructor(
    private readonly previews: PreviewService,
    private readonly quotas: QuotasService,
  ) {}

  @Post('preview')
  @HttpCode(200)
  @RequirePermission('document:create')
  @ApiOperation({
    summary: 'See the chunks that a file, a text or a document would be cut into; nothing is stored',
    description:
      'With the settings of the knowledge base, or others for this one time. A file is read by the parsers of this ' +
      'process alone: what a service reads in an ingestion (scanned pages, audio, video) is a warning or a 415 here.',
  })
  @ApiConsumes('multipart/form-data', 'application/json')
  @ApiBody({
    schema: {
      type: 'object',
      properties: {
        ...SPLIT_FIELDS,
        file: { type: 'string', format: 'binary', description: 'In a form, after the fields' },
        text: { type: 'string', description: 'In JSON' },
        document_id: { type: 'string', format: 'uuid', description: 'In JSON' },
      },
    },
  })
  @ApiOkResponse({ standardSchema: previewResultSchema })
  @ApiProblems(413, 415, 422)
  async preview(
    @Param('kb') kbReference: string,
    @Req() request: FastifyRequest,
    @RequestSignal() signal: AbortSignal,
  ) {
    const kb = await this.previews.knowledgeBase(kbReference);
    if (!request.isMultipart()) {
      const { text, document_id, ...settings } = parseFields(previewSchema, request.body ?? {});
      const preview = await (document_id !== undefined
        ? this.previews.ofDocument(kb, document_id, settings, signal)
        : this.previews.ofText(kb, text as string, settings, signal));
      return toPreview(preview);
    }
    const largest = await this.quotas.largestUpload();
    let preview: Preview | null = null;
    for await (const { file, fields } of formParts(request, largest, fieldsOf)) {
      if (!file) throw noFile();
      if (preview) {
        const message = 'One file at a time can be seen before it is added.';
        throw Problem.invalid([{ path: 'file', code: 'too_many', message }]);
      }
      preview = await this.previews.ofFile(kb, file, fields, signal);
    }
    return toPreview(preview as Preview);
  }
}
