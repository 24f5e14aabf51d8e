import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Put, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { RequirePermission } from '../authorization/require-permission.js';
import { ApiTenantParam } from '../tenancy/api-tenant-param.js';
import { pageOf } from './model-list.js';
import {
  type CreateModel,
  type ListModels,
  type SetModelDefaults,
  type UpdateModel,
  createModelSchema,
  listModelsQuery,
  modelDefaultsSchema,
  modelPageSchema,
  modelSchema,
  modelTrialSchema,
  setDefaultsSchema,
  toDefaults,
  toModel,
  toSharedModel,
  toTrial,
  updateModelSchema,
} from './models.dto.js';
import { TenantModelsService } from './tenant-models.service.js';

const ApiModelParam = (): MethodDecorator => ApiParam({ name: 'model', description: 'Id of the model' });

const ABOUT = `The address must be a public one, and https in production, unless the installation allows its host; it is checked
again whenever it is connected to. Key and address may name variables of the tenant as \`\${NAME}\`, which needs the permission
\`tenant:manage\`. A key is sealed, used by this server, and never shown again.

An entry is used where a knowledge base, an agent or a request names it (by id, display name or model name), or where it is
among the defaults. Requests to it are tried again after passing faults, as long after as \`Retry-After\` says; a server that
keeps failing is left alone for a moment.`;

@ApiTags('Models')
@ApiTenantParam()
@Controller('tenants/:tenant/models')
export class ModelsController {
  constructor(private readonly models: TenantModelsService) {}

  @Get()
  @RequirePermission('tenant:manage_models')
  @ApiOperation({ summary: 'List the tenant’s models, and those that the platform shares with it' })
  @ApiOkResponse({ standardSchema: modelPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listModelsQuery }) query: ListModels) {
    const { own, shared } = await this.models.list();
    const isShared = new Set(shared.map(({ id }) => id));
    const { items, total } = pageOf([...own, ...shared], query);
    return {
      items: items.map(entry => (isShared.has(entry.id) ? toSharedModel(entry) : toModel(entry))),
      total,
      page: query.page,
      page_size: query.page_size,
    };
  }

  @Post()
  @RequirePermission('tenant:manage_models')
  @ApiOperation({ summary: 'Add a model', description: ABOUT })
  @ApiCreatedResponse({ standardSchema: modelSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createModelSchema }) body: CreateModel) {
    return toModel(await this.models.create(body));
  }

  @Get('defaults')
  @RequirePermission('tenant:manage_models')
  @ApiOperation({ summary: 'Read which models are used where nobody names one' })
  @ApiOkResponse({ standardSchema: modelDefaultsSchema })
  async defaults() {
    return toDefaults(await this.models.defaults());
  }

  @Put('defaults')
  @RequirePermission('tenant:manage_models')
  @ApiOperation({
    summary: 'Choose which models are used where nobody names one',
    description:
      'Of chat models, the first is the default; the others take its place, in their order, where it fails for a passing ' +
      'reason before it has said anything. Types that are not named stay as they are; an empty list leaves the choice to ' +
      'the platform, and in the end to the installation. Another default embedding model is for knowledge bases without ' +
      'vectors: others keep theirs until they are re-indexed.',
  })
  @ApiOkResponse({ standardSchema: modelDefaultsSchema })
  @ApiProblems(422)
  async setDefaults(@Body({ schema: setDefaultsSchema }) body: SetModelDefaults) {
    return toDefaults(await this.models.setDefaults(body));
  }

  @Get(':model')
  @ApiModelParam()
  @RequirePermission('tenant:manage_models')
  @ApiOperation({ summary: 'Read a model, without its key' })
  @ApiOkResponse({ standardSchema: modelSchema })
  async get(@Param('model', IdParam) id: string) {
    const { entry, owner } = await this.models.get(id);
    return owner === 'platform' ? toSharedModel(entry) : toModel(entry);
  }

  @Patch(':model')
  @ApiIfMatch()
  @ApiModelParam()
  @RequirePermission('tenant:manage_models')
  @ApiOperation({
    summary: 'Change a model of the tenant',
    description:
      'Provider, type and name stay: another model is another entry. Where the address names another server, the key must ' +
      'be given again.',
  })
  @ApiOkResponse({ standardSchema: modelSchema })
  @ApiProblems(409, 422)
  async update(
    @Param('model', IdParam) id: string,
    @Body({ schema: updateModelSchema }) body: UpdateModel,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toModel(await this.models.update(id, body, ifMatch));
  }

  @Delete(':model')
  @ApiModelParam()
  @HttpCode(204)
  @RequirePermission('tenant:manage_models')
  @ApiOperation({ summary: 'Delete a model of the tenant; of the defaults it is none any more' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async delete(@Param('model', IdParam) id: string) {
    await this.models.delete(id);
  }

  @Post(':model/test')
  @ApiModelParam()
  @HttpCode(200)
  @RequirePermission('tenant:manage_models')
  @ApiOperation({
    summary: 'Try a model of the tenant with one tiny call',
    description:
      'Made once, and for real: it may cost a few tokens. How it ended is the answer, well or not.',
  })
  @ApiOkResponse({ standardSchema: modelTrialSchema })
  async test(@Param('model', IdParam) id: string, @RequestSignal() signal: AbortSignal) {
    return toTrial(await this.models.test(id, signal));
  }
}
