import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Req } from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiConsumes,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
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
  type BulkDelete,
  type CreateText,
  type ListDocuments,
  type UpdateDocument,
  bulkDeleteSchema,
  bulkDeletedSchema,
  chunkPageSchema,
  createTextSchema,
  documentPageSchema,
  documentSchema,
  documentVersionsSchema,
  listDocumentsQuery,
  toChunk,
  toDocument,
  toVersion,
  updateDocumentSchema,
  uploadResultSchema,
} from './documents.dto.js';
import { DocumentDeletionService } from './document-deletion.service.js';
import { type FileOutcome, DocumentSourcesService } from './document-sources.service.js';
import { DocumentsService } from './documents.service.js';
import { uploadParts } from './upload-parts.js';

/** What may stand in the form of an upload, for the API document. */
export const UPLOAD_FIELDS = {
  title: { type: 'string', description: 'The file name where it is missing' },
  metadata: { type: 'string', description: 'A JSON object', example: '{"department":"support"}' },
  acl: {
    type: 'string',
    description: 'Who may read them from the start, as JSON: {"members": [id], "groups": [id]}',
  },
  source_id: {
    type: 'string',
    description:
      'What the file is a version of: newer content of the same source_id becomes a version of the same document. The ' +
      'name of the file as it is sent, with its folders, where it is missing',
  },
  priority: { type: 'integer', minimum: -10, maximum: 10, default: 0 },
  on_existing: { type: 'string', enum: ['version', 'reject'], default: 'version' },
  file: { type: 'array', items: { type: 'string', format: 'binary' } },
};

const ApiDocumentParam = (): MethodDecorator =>
  ApiParam({ name: 'document', description: 'Id of the document' });

@ApiTags('Documents')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/documents')
export class DocumentsController {
  constructor(
    private readonly documents: DocumentsService,
    private readonly sources: DocumentSourcesService,
    private readonly deletion: DocumentDeletionService,
    private readonly quotas: QuotasService,
  ) {}

  @Post()
  @HttpCode(202)
  @RequirePermission('document:create')
  @ApiOperation({
    summary: 'Upload files',
    description:
      'What a file is, is told by its content. Fields stand before the files. Each file is accepted or ' +
      'rejected by itself; where all are rejected, the answer is the first one’s problem.',
  })
  @ApiConsumes('multipart/form-data')
  @ApiBody({
    schema: {
      type: 'object',
      required: ['file'],
      properties: {
        ...UPLOAD_FIELDS,
      },
    },
  })
  @ApiAcceptedResponse({ standardSchema: uploadResultSchema })
  @ApiProblems(409, 413, 415, 422)
  async upload(@Param('kb') kbReference: string, @Req() request: FastifyRequest) {
    const kb = await this.sources.knowledgeBase(kbReference);
    const largest = await this.quotas.largestUpload();
    return toUploadResult(await this.sources.createFromParts(kb, uploadParts(request, largest)));
  }

  @Post('text')
  @HttpCode(202)
  @RequirePermission('document:create')
  @ApiOperation({ summary: 'Add a text, plain or Markdown' })
  @ApiAcceptedResponse({ standardSchema: documentSchema })
  @ApiProblems(409, 413, 422)
  async createText(@Param('kb') kb: string, @Body({ schema: createTextSchema }) body: CreateText) {
    return toDocument(await this.sources.createFromText(kb, body));
  }

  @Post('bulk-delete')
  @HttpCode(200)
  @RequirePermission('document:delete')
  @ApiOperation({
    summary: 'Delete up to 500 documents at once',
    description: 'Of those that are there, all are deleted or none is.',
  })
  @ApiOkResponse({ standardSchema: bulkDeletedSchema })
  @ApiProblems(422)
  async deleteMany(@Param('kb') kb: string, @Body({ schema: bulkDeleteSchema }) body: BulkDelete) {
    const { deleted, notFound } = await this.deletion.deleteMany(kb, body.document_ids);
    return { deleted, not_found: notFound };
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

  @Get(':document/versions')
  @ApiDocumentParam()
  @RequirePermission('document:read')
  @ApiOperation({
    summary: 'List the originals that are stored of a document',
    description: 'The one that is searchable, and a newer one that is being ingested or could not be.',
  })
  @ApiOkResponse({ standardSchema: documentVersionsSchema })
  async versions(@Param('kb') kb: string, @Param('document', IdParam) id: string) {
    const { document, versions } = await this.documents.listVersions(kb, id);
    return { items: versions.map(version => toVersion(version, document)), total: versions.length };
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
    await this.deletion.delete(kb, id);
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

/** @throws Problem the first one’s, where all are rejected */
export function toUploadResult(outcomes: readonly FileOutcome[]) {
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
