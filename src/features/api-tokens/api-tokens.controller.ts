import { Body, Controller, Delete, Get, Header, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type CreateApiToken,
  type ListApiTokens,
  type RotateApiToken,
  type UpdateApiToken,
  apiTokenPageSchema,
  apiTokenSchema,
  createApiTokenSchema,
  issuedApiTokenSchema,
  listApiTokensQuery,
  rotateApiTokenSchema,
  toApiToken,
  toIssuedApiToken,
  updateApiTokenSchema,
} from './api-tokens.dto.js';
import { ApiTokensService } from './api-tokens.service.js';

const ApiTokenParam = (): MethodDecorator => ApiParam({ name: 'token', description: 'Id of the API token' });

@ApiTags('API tokens')
@ApiTenantParam()
@Controller('tenants/:tenant/api-tokens')
export class ApiTokensController {
  constructor(private readonly tokens: ApiTokensService) {}

  @Get()
  @RequirePermission('tenant:manage_tokens')
  @ApiOperation({ summary: 'List the API tokens of a tenant', description: 'Never their secrets.' })
  @ApiOkResponse({ standardSchema: apiTokenPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listApiTokensQuery }) query: ListApiTokens) {
    return toPage(await this.tokens.list(query), query, toApiToken);
  }

  @Post()
  @RequirePermission('tenant:manage_tokens')
  @ApiOperation({
    summary: 'Make an API token',
    description:
      'Its secret is in this answer alone. Nobody gives a token what they do not hold themselves, and whenever it is used ' +
      'it may do no more than its creator still may.',
  })
  @Header('cache-control', 'no-store')
  @ApiCreatedResponse({ standardSchema: issuedApiTokenSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createApiTokenSchema }) body: CreateApiToken) {
    return toIssuedApiToken(await this.tokens.create(body));
  }

  @Get(':token')
  @ApiTokenParam()
  @RequirePermission('tenant:manage_tokens')
  @ApiOperation({ summary: 'Read an API token', description: 'Never its secret.' })
  @ApiOkResponse({ standardSchema: apiTokenSchema })
  async get(@Param('token', IdParam) id: string) {
    return toApiToken(await this.tokens.get(id));
  }

  @Patch(':token')
  @ApiIfMatch()
  @ApiTokenParam()
  @RequirePermission('tenant:manage_tokens')
  @ApiOperation({
    summary: 'Change what an API token may do, or stop it for a while',
    description: 'What the change gives must be held by whoever makes it, and by the creator of the token.',
  })
  @ApiOkResponse({ standardSchema: apiTokenSchema })
  @ApiProblems(409, 422)
  async update(
    @Param('token', IdParam) id: string,
    @Body({ schema: updateApiTokenSchema }) body: UpdateApiToken,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toApiToken(await this.tokens.update(id, body, ifMatch));
  }

  @Delete(':token')
  @HttpCode(204)
  @ApiTokenParam()
  @RequirePermission('tenant:manage_tokens')
  @ApiOperation({ summary: 'Revoke an API token: it stops at once, and so do its requests under way' })
  @ApiNoContentResponse()
  async delete(@Param('token', IdParam) id: string) {
    await this.tokens.delete(id);
  }

  @Post(':token/rotate')
  @HttpCode(200)
  @ApiTokenParam()
  @RequirePermission('tenant:manage_tokens')
  @ApiOperation({
    summary: 'Give an API token a new secret',
    description: 'It is in this answer alone. The secret of before stays good until the overlap ends.',
  })
  @Header('cache-control', 'no-store')
  @ApiOkResponse({ standardSchema: issuedApiTokenSchema })
  @ApiProblems(409, 422)
  async rotate(
    @Param('token', IdParam) id: string,
    @Body({ schema: rotateApiTokenSchema }) body: RotateApiToken,
  ) {
    return toIssuedApiToken(await this.tokens.rotate(id, body.overlap_seconds));
  }
}
