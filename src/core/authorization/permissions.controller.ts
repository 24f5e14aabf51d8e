import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { z } from 'zod';
import { TenantContext } from '../tenancy/tenant-context.js';
import { AuthorizationService } from './authorization.service.js';
import { BUILT_IN_ROLES, PERMISSIONS, type Permission, domainKind, tenantDomain } from './permissions.js';
import { RequirePermission } from './require-permission.js';

const permissionsSchema = z
  .object({
    items: z.array(
      z.object({ name: z.string(), domain: z.enum(['platform', 'tenant', 'user']), description: z.string() }),
    ),
    roles: z
      .array(z.object({ name: z.string(), permissions: z.array(z.string()) }))
      .describe('The built-in roles of a tenant'),
    granted: z
      .array(z.string())
      .nullable()
      .describe('One’s own in the chosen tenant; null where none is chosen'),
  })
  .meta({ id: 'Permissions' });

@ApiTags('Authorization')
@Controller('permissions')
export class PermissionsController {
  constructor(
    private readonly context: TenantContext,
    private readonly authorization: AuthorizationService,
  ) {}

  @Get()
  @RequirePermission('user:read', { tokens: true })
  @ApiOperation({
    summary: 'List all permissions, what the built-in roles hold, and one’s own in the chosen tenant',
    description: 'Choose a tenant with the header X-Tenant-ID.',
  })
  @ApiOkResponse({ standardSchema: permissionsSchema })
  async list() {
    const { subject, tenantOrNull: tenant } = this.context;
    // A role asked for as a subject has its own permissions; any tenant's domain will do for the built-in ones.
    const domain = tenantDomain(tenant?.id ?? '');
    const roles = await Promise.all(
      BUILT_IN_ROLES.map(async name => ({
        name,
        permissions: await this.authorization.permissionsOf(name, domain),
      })),
    );
    return {
      items: Object.entries(PERMISSIONS).map(([name, description]) => ({
        name,
        domain: domainKind(name as Permission),
        description,
      })),
      roles,
      granted: tenant ? await this.authorization.permissionsOf(subject, domain) : null,
    };
  }
}
