import {
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  Param,
  Patch,
  Post,
  Query,
  Req,
  StreamableFile,
} from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiConsumes,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiProduces,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { pageQuery, toPage } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import {
  type CreateText,
  type ListDocuments,
  type UpdateDocument,
  chunkPageSchema,
  createTextSchema,
  documentPageSchema,
  documentSchema,
  listDocumentsQuery,
  toChunk,
  toDocument,
  updateDocumentSchema,
  uploadResultSchema,
} from './documents.dto.js';
import { DocumentsService } from './documents.service.js';
import { uploadParts } from './upload-parts.js';

const ApiDocumentParam = (): MethodDecorator =>
  ApiParam({ name: 'document', description: 'Id of the document' });

@ApiTags('Documents')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/documents')
export class DocumentsController {
  constructor(
    private readonly documents: DocumentsService,
    private readonly quotas: QuotasService,
  ) {}

  @Post()
  @HttpCode(202)
  @RequirePermission('document:create')
  @ApiOperation({
    summary: 'Upload files',
    description:
      'Text, Markdown, HTML, PDF and DOCX, told by content. Fields stand before the files. Each file is accepted or ' +
      'rejected by itself; where all are rejected, the answer is the first one’s problem.',
  })
  @ApiConsumes('multipart/form-data')
  @ApiBody({
    schema: {
      type: 'object',
      required: ['file'],
      properties: {
        title: { type: 'string', description: 'The file name where it is missing' },
        metadata: { type: 'string', description: 'A JSON object', example: '{"department":"support"}' },
        acl: {
          type: 'string',
          description: 'Who may read them from the start, as JSON: {"members": [id], "groups": [id]}',
        },
        file: { type: 'array', items: { type: 'string', format: 'binary' } },
      },
    },
  })
  @ApiAcceptedResponse({ standardSchema: uploadResultSchema })
  @ApiProblems(409, 413, 415, 422)
  async upload(@Param('kb') kbReference: string, @Req() request: FastifyRequest) {
    const kb = await this.documents.knowledgeBase(kbReference);
    const largest = await this.quotas.largestUpload();
    const outcomes = await this.documents.createFromFiles(kb, uploadParts(request, largest));
    const documents = outcomes.flatMap(({ result }) => (result instanceof Problem ? [] : [result]));
    const problems = outcomes.flatMap(({ fileName, result }) =>
      result instanceof Problem ? [{ fileName, problem: result }] : [],
    );
    if (documents.length === 0 && problems[0]) throw problems[0].problem;
    return {
      items: documents.map(toDocument),
      rejected: problems.map(({ fileName, problem }) => ({
        file_name: fileName,
        status: problem.status,
        code: problem.code,
        detail: problem.detail,
        ...problem.options.members,
      })),
    };
  }

  @Post('text')
  @HttpCode(202)
  @RequirePermission('document:create')
  @ApiOperation({ summary: 'Add a text, plain or Markdown' })
  @ApiAcceptedResponse({ standardSchema: documentSchema })
  @ApiProblems(409, 413, 422)
  async createText(@Param('kb') kb: string, @Body({ schema: createTextSchema }) body: CreateText) {
    return toDocument(await this.documents.createFromText(kb, body));
  }

  @Get()
  @RequirePermission('document:read')
  @ApiOperation({ summary: 'List documents' })
  @ApiOkResponse({ standardSchema: documentPageSchema })
  @ApiProblems(422)
  async list(@Param('kb') kb: string, @Query({ schema: listDocumentsQuery }) query: ListDocuments) {
    return toPage(await this.documents.list(kb, query), query, toDocument);
  }

  @Get(':document')
  @ApiDocumentParam()
  @RequirePermission('document:read')
  @ApiOperation({ summary: 'Read a document: status, progress, error' })
  @ApiOkResponse({ standardSchema: documentSchema })
  async get(@Param('kb') kb: string, @Param('document', IdParam) id: string) {
    return toDocument(await this.documents.get(kb, id));
  }

  @Get(':document/content')
  @ApiDocumentParam()
  @RequirePermission('document:read')
  @ApiOperation({ summary: 'Download the original' })
  @ApiProduces('application/octet-stream')
  @ApiOkResponse({ schema: { type: 'string', format: 'binary' } })
  async content(@Param('kb') kb: string, @Param('document', IdParam) id: string) {
    const { document, content } = await this.documents.content(kb, id);
    // Never shown inline: an uploaded page must not run in this origin.
    return new StreamableFile(content, {
      type: document.mimeType,
      length: document.sizeBytes,
      disposition: `attachment; filename*=UTF-8''${encodeURIComponent(document.fileName ?? `${document.title}.md`)}`,
    });
  }

  @Get(':document/chunks')
  @ApiDocumentParam()
  @RequirePermission('document:read')
  @ApiOperation({ summary: 'List the chunks of a document, in their order' })
  @ApiOkResponse({ standardSchema: chunkPageSchema })
  @ApiProblems(422)
  async chunks(
    @Param('kb') kb: string,
    @Param('document', IdParam) id: string,
    @Query({ schema: pageQuery }) query: z.infer<typeof pageQuery>,
  ) {
    return toPage(await this.documents.listChunks(kb, id, query.page, query.page_size), query, toChunk);
  }

  @Patch(':document')
  @ApiIfMatch()
  @ApiDocumentParam()
  @RequirePermission('document:update')
  @ApiOperation({ summary: 'Change title or metadata' })
  @ApiOkResponse({ standardSchema: documentSchema })
  @ApiProblems(422)
  async update(
    @Param('kb') kb: string,
    @Param('document', IdParam) id: string,
    @Body({ schema: updateDocumentSchema }) body: UpdateDocument,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toDocument(await this.documents.update(kb, id, body, ifMatch));
  }

  @Delete(':document')
  @ApiDocumentParam()
  @HttpCode(204)
  @RequirePermission('document:delete')
  @ApiOperation({ summary: 'Delete a document with its chunks and its original' })
  @ApiNoContentResponse()
  async delete(@Param('kb') kb: string, @Param('document', IdParam) id: string) {
    await this.documents.delete(kb, id);
  }

  @Post(':document/reindex')
  @ApiDocumentParam()
  @HttpCode(202)
  @RequirePermission('document:update')
  @ApiOperation({
    summary: 'Ingest a document again from its original, as after a failure or a change of settings',
  })
  @ApiAcceptedResponse({ standardSchema: documentSchema })
  async reindex(@Param('kb') kb: string, @Param('document', IdParam) id: string) {
    return toDocument(await this.documents.reindex(kb, id));
  }

  @Post(':document/cancel')
  @ApiDocumentParam()
  @HttpCode(200)
  @RequirePermission('document:update')
  @ApiOperation({ summary: 'Stop an ingestion that has not ended' })
  @ApiOkResponse({ standardSchema: documentSchema })
  @ApiProblems(409)
  async cancel(@Param('kb') kb: string, @Param('document', IdParam) id: string) {
    return toDocument(await this.documents.cancel(kb, id));
  }
}
