import { Body, Controller, Delete, Get, HttpCode, Param, Put, Query } from '@nestjs/common';
import { ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../authorization/require-permission.js';
import { ApiTenantParam } from '../tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type ListVariables,
  type SetVariable,
  listVariablesQuery,
  setVariableSchema,
  toVariable,
  variablePageSchema,
  variableSchema,
} from './tenant-variables.dto.js';
import { TenantVariablesService } from './tenant-variables.service.js';

const ApiVariableParam = () =>
  ApiParam({ name: 'variable', description: 'Name of the variable', example: 'ANALYTICS_ENDPOINT' });

@ApiTags('Tenant settings')
@ApiTenantParam()
@Controller('tenants/:tenant/variables')
export class TenantVariablesController {
  constructor(private readonly variables: TenantVariablesService) {}

  @Get()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'List the tenant’s variables, without their values' })
  @ApiOkResponse({ standardSchema: variablePageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listVariablesQuery }) query: ListVariables) {
    return toPage(await this.variables.list(query), query, toVariable);
  }

  @Get(':variable')
  @ApiVariableParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Read who set a variable and when, without its value' })
  @ApiOkResponse({ standardSchema: variableSchema })
  async get(@Param('variable') name: string) {
    return toVariable(await this.variables.get(name));
  }

  @Put(':variable')
  @ApiVariableParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Set a variable; its value is sealed, and never shown again' })
  @ApiOkResponse({ standardSchema: variableSchema })
  @ApiProblems(409, 422)
  async set(@Param('variable') name: string, @Body({ schema: setVariableSchema }) body: SetVariable) {
    return toVariable(await this.variables.set(name, body.value));
  }

  @Delete(':variable')
  @ApiVariableParam()
  @HttpCode(204)
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Delete a variable' })
  @ApiNoContentResponse()
  async delete(@Param('variable') name: string) {
    await this.variables.delete(name);
  }
}
