import { SetMetadata, applyDecorators } from '@nestjs/common';
import { ApiBearerAuth, ApiExtension, ApiSecurity } from '@nestjs/swagger';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { PERMISSIONS, type Permission, domainKind } from './permissions.js';

export const ACCESS = 'access';
/** Name of the header X-API-Key in the API document. */
export const API_KEY_SECURITY = 'apiKey';

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
      /** Another one that lets in, too; null: none does. The route then looks what each of them shows. */
      or: Permission | null;
      /** Whether API tokens may call it. */
      tokens: boolean;
      /** Whether it asks an agent, so that API tokens which are kept to some may call it. */
      asksAgents: boolean;
      /** Whether the knowledge base that it is about is named outside of the path, or not at all. */
      kbBesidePath: boolean;
    };

/**
 * Guards a route with a permission, asked for in that permission's kind of domain, and says so in the API document.
 *
 * @param options.tokens whether API tokens may call it: in a tenant they may, unless it acts on the caller's own account.
 *   A route that is about the caller's own things may let them in, and then keeps them to what is the token's.
 * @param options.kbBesidePath lets in whoever may do it in the knowledge base that the header X-KB-ID or the query `kb`
 *   names; where none is, in any. The route then asks again for the one that it takes.
 * @param options.or a permission of the same kind that lets in, too: the route shows each what it gives
 * @param options.asksAgents of a route that needs `query:run`: lets in API tokens that are kept to some agents, which
 *   answer as those do, and do not ask the documents past them
 */
export function RequirePermission(
  permission: Permission,
  {
    tokens = domainKind(permission) === 'tenant',
    kbBesidePath = false,
    or = null,
    asksAgents = permission !== 'query:run',
  }: { tokens?: boolean; kbBesidePath?: boolean; or?: Permission | null; asksAgents?: boolean } = {},
): MethodDecorator {
  const domain = { platform: 'platform', user: 'user_<id>', tenant: 'tenant_<id>' }[domainKind(permission)];
  return applyDecorators(
    SetMetadata(ACCESS, {
      kind: 'permission',
      permission,
      or,
      tokens,
      asksAgents,
      kbBesidePath,
    } satisfies Access),
    ApiBearerAuth(),
    ...(tokens ? [ApiSecurity(API_KEY_SECURITY)] : []),
    ApiExtension('x-permission', {
      permission,
      ...(or && { or }),
      domain,
      tokens,
      description: PERMISSIONS[permission],
    }),
    ApiProblems(401, 403, ...(domainKind(permission) === 'tenant' ? [404] : []), 429),
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
