import { Body, Controller, Get, Param, Put } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { DocumentAccessService } from './document-access.service.js';
import { type Acl, documentAclSchema, setAclSchema } from './documents.dto.js';

@ApiTags('Documents')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@ApiParam({ name: 'document', description: 'Id of the document' })
@Controller('tenants/:tenant/kbs/:kb/documents/:document/acl')
export class DocumentAccessController {
  constructor(private readonly access: DocumentAccessService) {}

  @Get()
  @RequirePermission('document:update')
  @ApiOperation({ summary: 'Say who may read a document' })
  @ApiOkResponse({ standardSchema: documentAclSchema })
  async get(@Param('kb') kb: string, @Param('document', IdParam) id: string) {
    return toAccess(await this.access.get(kb, id));
  }

  @Put()
  @RequirePermission('document:update')
  @ApiOperation({
    summary: 'Let only listed members and groups read a document, or again whoever reads its knowledge base',
    description: 'Owners and admins read it in any case. Nobody else can leave themselves out.',
  })
  @ApiOkResponse({ standardSchema: documentAclSchema })
  @ApiProblems(422)
  async set(
    @Param('kb') kb: string,
    @Param('document', IdParam) id: string,
    @Body({ schema: setAclSchema }) { acl }: z.infer<typeof setAclSchema>,
  ) {
    return toAccess(await this.access.set(kb, id, acl));
  }
}

const toAccess = (acl: Acl | null) => ({ restricted: acl !== null, acl });
