import { Body, Controller, Get, Patch, Put } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import {
  type ConfigChanges,
  configChangesSchema,
  resolvedConfigSchema,
} from '../../core/tenancy/tenant-config.dto.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import {
  type ChangeFeatures,
  changeFeaturesSchema,
  featuresSchema,
  toFeatures,
} from './tenant-settings.dto.js';
import { TenantSettingsService } from './tenant-settings.service.js';

@ApiTags('Tenant settings')
@ApiTenantParam()
@Controller('tenants/:tenant')
export class TenantSettingsController {
  constructor(private readonly settings: TenantSettingsService) {}

  @Get('features')
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'List the features, with what holds for the tenant and which level set it' })
  @ApiOkResponse({ standardSchema: featuresSchema })
  async features() {
    return toFeatures(await this.settings.features());
  }

  @Put('features')
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Set features of the tenant; null goes back to the platform’s default' })
  @ApiOkResponse({ standardSchema: featuresSchema })
  @ApiProblems(422)
  async changeFeatures(@Body({ schema: changeFeaturesSchema }) body: ChangeFeatures) {
    return toFeatures(await this.settings.changeFeatures(body));
  }

  @Get('config')
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Read the configuration, with which level set each field' })
  @ApiOkResponse({ standardSchema: resolvedConfigSchema })
  async config() {
    return { config: await this.settings.config() };
  }

  @Patch('config')
  @RequirePermission('tenant:manage')
  @ApiOperation({
    summary: 'Change fields of the configuration; null goes back to the default',
    description: 'Knowledge bases override single fields. What was ingested before stays as it was.',
  })
  @ApiOkResponse({ standardSchema: resolvedConfigSchema })
  @ApiProblems(422)
  async changeConfig(@Body({ schema: configChangesSchema }) body: ConfigChanges) {
    return { config: await this.settings.changeConfig(body) };
  }
}
