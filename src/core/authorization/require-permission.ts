import { SetMetadata, applyDecorators } from '@nestjs/common';
import { ApiBearerAuth, ApiExtension } from '@nestjs/swagger';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { PERMISSIONS, type Permission, domainKind } from './permissions.js';

export const ACCESS = 'access';

/** What a route says about who may call it. A route that says nothing stops the start. */
export type Access =
  | {
      kind: 'public';
      /** Whether the route wants to know who calls, where the request says so. */
      recognizes: boolean;
    }
  | {
      kind: 'permission';
      permission: Permission;
      /** Whether an API token may call a route that is about the user's own things: the route keeps it to the token's. */
      tokens: boolean;
    };

/**
 * Guards a route with a permission, asked for in that permission's kind of domain, and says so in the API document.
 *
 * @param options.tokens for a permission of the user's own domain: lets API tokens in, too
 */
export function RequirePermission(permission: Permission, { tokens = false } = {}): MethodDecorator {
  const domain = { platform: 'platform', user: 'user_<id>', tenant: 'tenant_<id>' }[domainKind(permission)];
  return applyDecorators(
    SetMetadata(ACCESS, { kind: 'permission', permission, tokens } satisfies Access),
    ApiBearerAuth(),
    ApiExtension('x-permission', { permission, domain, description: PERMISSIONS[permission] }),
    ApiProblems(401, 403, ...(domainKind(permission) === 'tenant' ? [404] : [])),
  );
}

/**
 * Opens a route to everybody.
 *
 * @param options.recognizes takes a credential, too; one that is not valid counts as none
 */
export function Public({ recognizes = false } = {}): MethodDecorator {
  return applyDecorators(
    SetMetadata(ACCESS, { kind: 'public', recognizes } satisfies Access),
    ...(recognizes ? [ApiBearerAuth()] : []),
    ApiExtension('x-permission', { permission: null, domain: null, description: 'Public' }),
  );
}
