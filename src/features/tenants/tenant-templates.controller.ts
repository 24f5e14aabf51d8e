import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type CreateTemplate,
  type ListTemplates,
  type ReplaceTemplate,
  createTemplateSchema,
  listTemplatesQuery,
  replaceTemplateSchema,
  templatePageSchema,
  templateSchema,
  toTemplate,
} from './tenant-templates.dto.js';
import { TenantTemplatesService } from './tenant-templates.service.js';

const ApiTemplateParam = () =>
  ApiParam({ name: 'template', description: 'Name of the template', example: 'department_template' });

@ApiTags('Tenant templates')
@Controller('tenant-templates')
export class TenantTemplatesController {
  constructor(private readonly templates: TenantTemplatesService) {}

  @Get()
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'List the templates that tenants are made from' })
  @ApiOkResponse({ standardSchema: templatePageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listTemplatesQuery }) query: ListTemplates) {
    return toPage(await this.templates.list(query), query, toTemplate);
  }

  @Post()
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Create a template',
    description:
      'Texts of settings, config, branding, metadata and members may name placeholders as `${NAME}`, whose values are ' +
      'given with `placeholders` where a tenant is made. TENANT_NAME, TENANT_DISPLAY_NAME and TENANT_ADMIN_EMAIL have ' +
      'theirs already; `$${NAME}` stands for `${NAME}` itself.',
  })
  @ApiCreatedResponse({ standardSchema: templateSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createTemplateSchema }) body: CreateTemplate) {
    return toTemplate(await this.templates.create(body));
  }

  @Get(':template')
  @ApiTemplateParam()
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Read a template' })
  @ApiOkResponse({ standardSchema: templateSchema })
  @ApiProblems(404)
  async get(@Param('template') name: string) {
    return toTemplate(await this.templates.get(name));
  }

  @Put(':template')
  @ApiIfMatch()
  @ApiTemplateParam()
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Replace a template; tenants that were made from it stay as they are' })
  @ApiOkResponse({ standardSchema: templateSchema })
  @ApiProblems(404, 422)
  async replace(
    @Param('template') name: string,
    @Body({ schema: replaceTemplateSchema }) body: ReplaceTemplate,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toTemplate(await this.templates.replace(name, body, ifMatch));
  }

  @Delete(':template')
  @ApiTemplateParam()
  @HttpCode(204)
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Delete a template; tenants that were made from it stay as they are' })
  @ApiNoContentResponse()
  @ApiProblems(404)
  async delete(@Param('template') name: string) {
    await this.templates.delete(name);
  }
}
