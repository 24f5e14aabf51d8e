import { Body, Controller, Delete, HttpCode, Param, Post } from '@nestjs/common';
import { ApiCreatedResponse, ApiNoContentResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { memberSchema, toMember } from './members.dto.js';
import { MembersService } from './members.service.js';
import { NewMembersService } from './new-members.service.js';
import { exactlyOne, needsOneOf, roleFields } from './role-fields.js';

const addToTenantSchema = z
  .strictObject({
    tenant_id: z.string().min(1).max(63).describe('Id or name').meta({ example: 'acme-corp' }),
    ...roleFields,
    send_notification: z.boolean().default(false).describe('Tells them by e-mail.'),
  })
  .refine(body => exactlyOne(body, 'role', 'roles'), needsOneOf('role', 'roles'))
  .meta({ id: 'AddToTenant', example: { tenant_id: 'acme-corp', role: 'viewer' } });

type AddToTenant = z.infer<typeof addToTenantSchema>;

/** The tenants of a user, in the hands of the platform. The tenant that the request names is the context's by now. */
@ApiTags('Users')
@ApiParam({ name: 'user', description: 'Id of the user' })
@Controller('users/:user/tenants')
export class UserTenantsController {
  constructor(
    private readonly newMembers: NewMembersService,
    private readonly members: MembersService,
  ) {}

  @Post()
  @RequirePermission('platform:users')
  @ApiOperation({ summary: 'Add a user to a tenant, with one role or several' })
  @ApiCreatedResponse({ standardSchema: memberSchema })
  @ApiProblems(404, 409, 422)
  async add(
    @Param('user', IdParam) userId: string,
    @Body({ schema: addToTenantSchema }) { role, roles, send_notification }: AddToTenant,
  ) {
    const member = { user_id: userId, role, roles, send_notification, send_welcome_email: false };
    return toMember(await this.newMembers.add(member));
  }

  @Delete(':tenant')
  @HttpCode(204)
  @ApiTenantParam()
  @RequirePermission('platform:users')
  @ApiOperation({ summary: 'Remove a user from a tenant' })
  @ApiNoContentResponse()
  @ApiProblems(404, 409)
  async remove(@Param('user', IdParam) userId: string) {
    await this.members.remove(userId);
  }
}
