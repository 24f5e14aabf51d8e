import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { effectivePermissionsQuery, effectivePermissionsSchema } from './effective-permissions.dto.js';
import { EffectivePermissionsService } from './effective-permissions.service.js';

@ApiTags('Roles')
@ApiTenantParam()
@Controller('tenants/:tenant/members/:user/permissions')
export class EffectivePermissionsController {
  constructor(private readonly permissions: EffectivePermissionsService) {}

  @Get()
  @ApiParam({ name: 'user', description: 'Id of the member' })
  @RequirePermission('tenant:read')
  @ApiOperation({
    summary: 'Say what a member may do, and why',
    description:
      'One’s own; those of others need tenant:manage_members. With `kb`, what may be done in that knowledge base.',
  })
  @ApiOkResponse({ standardSchema: effectivePermissionsSchema })
  @ApiProblems(422)
  explain(
    @Param('user', IdParam) userId: string,
    @Query({ schema: effectivePermissionsQuery }) { kb }: z.infer<typeof effectivePermissionsQuery>,
  ) {
    return this.permissions.explain(userId, kb);
  }
}
