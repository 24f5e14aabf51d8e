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
import { toPage } from '../../foundation/http/pagination.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { RequirePermission } from '../authorization/require-permission.js';
import { pageOf } from './model-list.js';
import {
  type CreatePlatformModel,
  type ListModels,
  type SetModelDefaults,
  type UpdatePlatformModel,
  createPlatformModelSchema,
  listModelsQuery,
  modelTrialSchema,
  platformDefaultsSchema,
  platformModelPageSchema,
  platformModelSchema,
  setDefaultsSchema,
  toPlatformModel,
  toTrial,
  updatePlatformModelSchema,
} from './models.dto.js';
import { PlatformModelsService } from './platform-models.service.js';

const ApiModelParam = (): MethodDecorator => ApiParam({ name: 'model', description: 'Id of the model' });

@ApiTags('Models')
@Controller('platform/models')
export class PlatformModelsController {
  constructor(private readonly models: PlatformModelsService) {}

  @Get()
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'List the platform’s models' })
  @ApiOkResponse({ standardSchema: platformModelPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listModelsQuery }) query: ListModels) {
    return toPage(pageOf(await this.models.list(), query), query, toPlatformModel);
  }

  @Post()
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Add a model of the platform, for all tenants or some',
    description:
      'Tenants use it like one of their own, and see neither its address nor its key. It may be anywhere, also in a private ' +
      'network.',
  })
  @ApiCreatedResponse({ standardSchema: platformModelSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createPlatformModelSchema }) body: CreatePlatformModel) {
    return toPlatformModel(await this.models.create(body));
  }

  @Get('defaults')
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Read which models tenants use that have chosen none' })
  @ApiOkResponse({ standardSchema: platformDefaultsSchema })
  async defaults() {
    return this.models.defaults();
  }

  @Put('defaults')
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Choose which models tenants use that have chosen none',
    description:
      'For each tenant, those of them that are shared with it. Types that are not named stay as they are.',
  })
  @ApiOkResponse({ standardSchema: platformDefaultsSchema })
  @ApiProblems(422)
  async setDefaults(@Body({ schema: setDefaultsSchema }) body: SetModelDefaults) {
    return this.models.setDefaults(body);
  }

  @Get(':model')
  @ApiModelParam()
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Read a model of the platform, without its key' })
  @ApiOkResponse({ standardSchema: platformModelSchema })
  async get(@Param('model', IdParam) id: string) {
    return toPlatformModel(await this.models.get(id));
  }

  @Patch(':model')
  @ApiIfMatch()
  @ApiModelParam()
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Change a model of the platform, or with whom it is shared' })
  @ApiOkResponse({ standardSchema: platformModelSchema })
  @ApiProblems(409, 422)
  async update(
    @Param('model', IdParam) id: string,
    @Body({ schema: updatePlatformModelSchema }) body: UpdatePlatformModel,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toPlatformModel(await this.models.update(id, body, ifMatch));
  }

  @Delete(':model')
  @ApiModelParam()
  @HttpCode(204)
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Delete a model of the platform; no tenant can use it any more' })
  @ApiNoContentResponse()
  async delete(@Param('model', IdParam) id: string) {
    await this.models.delete(id);
  }

  @Post(':model/test')
  @ApiModelParam()
  @HttpCode(200)
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Try a model of the platform with one tiny call' })
  @ApiOkResponse({ standardSchema: modelTrialSchema })
  async test(@Param('model', IdParam) id: string, @RequestSignal() signal: AbortSignal) {
    return toTrial(await this.models.test(id, signal));
  }
}
