import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import type { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { pageQuery, toPage } from '../../foundation/http/pagination.js';
import {
  type GrantInput,
  grantSchema,
  kbGrantPageSchema,
  kbGrantSchema,
  kbGrantsSchema,
  replaceGrantsSchema,
  toKbGrant,
} from './kb-grants.dto.js';
import { KbGrantsService } from './kb-grants.service.js';
import { ApiKnowledgeBaseParam } from './knowledge-bases.controller.js';

@ApiTags('Grants')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/grants')
export class KbGrantsController {
  constructor(private readonly grants: KbGrantsService) {}

  @Get()
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'List who has a role on this knowledge base alone: groups first, then members' })
  @ApiOkResponse({ standardSchema: kbGrantPageSchema })
  @ApiProblems(422)
  async list(@Param('kb') kb: string, @Query({ schema: pageQuery }) query: z.infer<typeof pageQuery>) {
    return toPage(await this.grants.list(kb, query.page, query.page_size), query, toKbGrant);
  }

  @Put()
  @RequirePermission('kb:update')
  @ApiOperation({
    summary: 'Replace all grants of a knowledge base',
    description:
      'Nobody gives, or takes from others, what they may not do in this knowledge base themselves.',
  })
  @ApiOkResponse({ standardSchema: kbGrantsSchema })
  @ApiProblems(409, 422)
  async replace(
    @Param('kb') kb: string,
    @Body({ schema: replaceGrantsSchema }) body: z.infer<typeof replaceGrantsSchema>,
  ) {
    const grants = await this.grants.replace(kb, body.grants);
    return { items: grants.map(toKbGrant), total: grants.length };
  }

  @Post()
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'Grant a role, in the place of the one that the member or group has here' })
  @ApiCreatedResponse({ standardSchema: kbGrantSchema })
  @ApiProblems(409, 422)
  async grant(@Param('kb') kb: string, @Body({ schema: grantSchema }) body: GrantInput) {
    return toKbGrant(await this.grants.grant(kb, body));
  }

  @Delete(':grant')
  @ApiParam({ name: 'grant', description: 'Id of the grant' })
  @HttpCode(204)
  @RequirePermission('kb:update')
  @ApiOperation({ summary: 'Take a grant away' })
  @ApiNoContentResponse()
  @ApiProblems(409, 422)
  async revoke(@Param('kb') kb: string, @Param('grant', IdParam) id: string) {
    await this.grants.revoke(kb, id);
  }
}
