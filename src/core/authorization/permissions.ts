/** Every permission there is, with what it lets one do. The part before the colon is the object, after it the action. */
export const PERMISSIONS = {
  'platform:tenants': 'Create, list, suspend and erase tenants of the installation',
  'platform:users': 'Manage the users of the installation',
  'platform:analytics': 'See usage across tenants',
  'platform:audit': 'Read the audit of the installation',
  'platform:read': 'List the tenants and users of the installation',
  'user:read': 'See one’s own profile, sessions and tenants',
  'user:update': 'Change one’s own profile and sessions',
  'user:create_tenant': 'Make a tenant: platform admins, and every user where self-service is on',
  'tenant:read': 'See the tenant and its members',
  'tenant:manage': 'Change the tenant’s settings',
  'tenant:manage_members': 'Add, change and remove members',
  'tenant:manage_tokens': 'Make and revoke API tokens',
  'tenant:manage_models': 'Configure the tenant’s models',
  'tenant:manage_widgets': 'Configure the tenant’s widgets',
  'tenant:manage_webhooks': 'Configure the tenant’s webhooks',
  'tenant:manage_billing': 'See and change what the tenant pays',
  'tenant:read_audit': 'Read the tenant’s audit',
  'tenant:read_usage': 'See the tenant’s usage and limits',
  'tenant:export': 'Export and back up the tenant’s data',
  'tenant:delete': 'Delete the tenant',
  'kb:create': 'Create knowledge bases',
  'kb:read': 'See knowledge bases',
  'kb:update': 'Change knowledge bases',
  'kb:delete': 'Delete knowledge bases',
  'document:create': 'Add documents',
  'document:read': 'Read documents',
  'document:update': 'Change documents',
  'document:delete': 'Delete documents',
  'agent:create': 'Create agents',
  'agent:read': 'See agents',
  'agent:update': 'Change agents',
  'agent:delete': 'Delete agents',
  'graph:read': 'Read the knowledge graph',
  'query:run': 'Search and ask',
  'chat:own': 'Chat, and see one’s own chats',
  'chat:read_all': 'See everybody’s chats',
} as const;

export type Permission = keyof typeof PERMISSIONS;

/** The roles that every tenant has. */
export const BUILT_IN_ROLES = ['owner', 'admin', 'editor', 'viewer', 'viewer_readonly'] as const;
export type BuiltInRole = (typeof BUILT_IN_ROLES)[number];

export const PLATFORM_DOMAIN = 'platform';
export const tenantDomain = (tenantId: string): string => `tenant_${tenantId}`;
export const userDomain = (userId: string): string => `user_${userId}`;

/** The tenant whose domain this is; null for every other domain. */
export const tenantOfDomain = (domain: string): string | null =>
  /^tenant_[0-9a-f-]{36}$/.test(domain) ? domain.slice('tenant_'.length) : null;

/** Whether a permission is about what is in a knowledge base, so that a grant on one may give it. */
export const isKbPermission = (permission: Permission): boolean =>
  /^(kb|document|agent|graph|query|chat):/.test(permission);

/**
 * Permissions that reach past single knowledge bases: they make others, or tell what happens in all of them. Nothing that
 * is kept to some has them.
 */
export const BEYOND_SINGLE_KBS: readonly Permission[] = [
  'kb:create',
  'tenant:read_audit',
  'tenant:manage_webhooks',
];

/** Permissions that a tenant's own roles may hold. */
export const TENANT_PERMISSIONS = (Object.keys(PERMISSIONS) as Permission[]).filter(
  permission => domainKind(permission) === 'tenant',
);

/** In which kind of domain a permission is asked for. */
export function domainKind(permission: Permission): 'platform' | 'user' | 'tenant' {
  if (permission.startsWith('platform:')) return 'platform';
  if (permission.startsWith('user:')) return 'user';
  return 'tenant';
}
