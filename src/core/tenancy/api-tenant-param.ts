import { ApiParam } from '@nestjs/swagger';

/** Documents `{tenant}`, which the authentication guard reads from the path. */
export const ApiTenantParam = (): MethodDecorator & ClassDecorator =>
  ApiParam({ name: 'tenant', description: 'Id or name of the tenant', example: 'acme-corp' });
