import { Controller, Get, Param } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { resolvedConfigSchema } from '../../core/tenancy/tenant-config.dto.js';
import { KnowledgeBaseConfigService } from './knowledge-base-config.service.js';
import { ApiKnowledgeBaseParam } from './knowledge-bases.controller.js';

@ApiTags('Knowledge bases')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/config')
export class KnowledgeBaseConfigController {
  constructor(private readonly configs: KnowledgeBaseConfigService) {}

  @Get()
  @RequirePermission('kb:read')
  @ApiOperation({
    summary: 'Read the configuration that holds in a knowledge base, with which level set each field',
  })
  @ApiOkResponse({ standardSchema: resolvedConfigSchema })
  async get(@Param('kb') kb: string) {
    return { config: await this.configs.get(kb) };
  }
}
