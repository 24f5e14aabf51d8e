import type { Fault } from './fault.js';

const CREDENTIALS = 'test/isolation/credentials.spec.ts';
const STRANGERS = 'test/e2e/tenants-and-members.spec.ts';
const FOREIGN_FIELDS = 'test/isolation/foreign-ids-in-fields.spec.ts';
const FOREIGN_PATHS = 'test/isolation/foreign-ids-in-paths.spec.ts';
const INJECTED = 'test/isolation/injected-fields.spec.ts';
const APP = 'src/app.module.ts';
const TENANT_GUARD = 'src/entry/authentication/tenant.guard.ts';
const ADMISSION = 'src/core/authorization/tenant-admission.service.ts';
const AUTHORIZATION = 'src/core/authorization/authorization.service.ts';
const PERMISSION_GUARD = 'src/core/authorization/permission.guard.ts';
const ROUTES = ['test/routes.spec.ts', 'test/isolation/roles.spec.ts'];

/** Who is let into which tenant, and to which route. */
export const GUARD_FAULTS: readonly Fault[] = [
  {
    name: 'permission-guard-removed',
    breaks: 'Every member may do everything.',
    edits: [{ file: APP, find: '        { provide: APP_GUARD, useClass: PermissionGuard },\n', replace: '' }],
    specs: ['test/isolation/roles.spec.ts', CREDENTIALS],
  },
  {
    name: 'permission-before-tenant',
    breaks:
      'The permission is asked for before it is known in which tenant; and where none is known, for nothing.',
    edits: [
      {
        file: APP,
        find: '        { provide: APP_GUARD, useClass: TenantGuard },\n        { provide: APP_GUARD, useClass: PermissionGuard },\n',
        replace:
          '        { provide: APP_GUARD, useClass: PermissionGuard },\n        { provide: APP_GUARD, useClass: TenantGuard },\n',
      },
      {
        file: PERMISSION_GUARD,
        find: '    const { subject } = this.context;\n',
        replace:
          "    const { subject } = this.context;\n    if (kind === 'tenant' && !this.context.tenantOrNull) return true;\n",
      },
    ],
    specs: ['test/isolation/roles.spec.ts', CREDENTIALS],
  },
  {
    name: 'live-requests-not-watched',
    breaks: 'A stream goes on after its tenant was suspended or its session has ended.',
    edits: [
      { file: APP, find: '        { provide: APP_GUARD, useClass: LiveRequestGuard },\n', replace: '' },
    ],
    specs: ['test/e2e/live-requests.spec.ts'],
  },
  {
    name: 'membership-not-asked',
    breaks: 'Whoever names a tenant is let in.',
    edits: [
      {
        file: ADMISSION,
        find: '(await this.authorization.accessOf(subject, tenantId)).member || (await this.mayReadPlatform(subject))',
        replace: '(await this.authorization.accessOf(subject, tenantId)).member || true',
      },
    ],
    specs: [`${STRANGERS}#are the same 404 for strangers`, `${FOREIGN_PATHS}#a tenant named beside the path`],
  },
  {
    name: 'foreign-tenant-told-apart',
    breaks: 'A tenant that is somebody else’s is answered otherwise than one that is not there.',
    edits: [
      {
        file: TENANT_GUARD,
        find: '        if (tenant) await this.directory.lookUp(reference);\n',
        replace: "        if (tenant) throw Problem.forbidden('You are no member.');\n",
      },
    ],
    specs: [`${STRANGERS}#are the same 404 for strangers`, `${FOREIGN_PATHS}#a tenant named beside the path`],
  },
  {
    name: 'suspended-tenant-open',
    breaks: 'The members and tokens of a suspended tenant go on.',
    edits: [
      {
        file: ADMISSION,
        find: "tenant.status !== 'active' && !(await this.mayReadPlatform(subject))",
        replace: "tenant.status === 'erasing' && !(await this.mayReadPlatform(subject))",
      },
    ],
    specs: [`${STRANGERS}#that are suspended refuse their members`, `${CREDENTIALS}#suspended tenant`],
  },
  {
    name: 'permission-of-one-route',
    breaks: 'Whoever may read documents deletes them.',
    edits: [
      {
        file: 'src/features/documents/documents.controller.ts',
        find: "  @Delete(':document')\n  @ApiDocumentParam()\n  @HttpCode(204)\n  @RequirePermission('document:delete')",
        replace:
          "  @Delete(':document')\n  @ApiDocumentParam()\n  @HttpCode(204)\n  @RequirePermission('document:read')",
      },
    ],
    specs: ROUTES,
  },
  {
    name: 'route-open-to-all',
    breaks: 'The search of a knowledge base wants no credential.',
    edits: [
      {
        file: 'src/features/retrieval/retrieval.controller.ts',
        find: "  @RequirePermission('query:run')",
        replace: '  @Public()',
      },
      {
        file: 'src/features/retrieval/retrieval.controller.ts',
        find: 'import { RequirePermission }',
        replace: 'import { Public }',
      },
    ],
    specs: ROUTES,
  },
  {
    name: 'role-may-more',
    breaks: 'Viewers change documents.',
    edits: [
      {
        file: 'casbin/policy.csv',
        find: 'p, viewer, tenant_*, document, read\n',
        replace: 'p, viewer, tenant_*, document, read\np, viewer, tenant_*, document, update\n',
      },
    ],
    specs: ['test/isolation/roles.spec.ts'],
  },
  {
    name: 'scope-not-checked-again',
    breaks: 'A token does whatever its creator may, past its scopes.',
    edits: [{ file: AUTHORIZATION, find: '    subject.scopes.has(permission) &&\n', replace: '' }],
    specs: ['test/e2e/api-token-rights.spec.ts#nor does it do all', `${CREDENTIALS}#every scope but its own`],
  },
  {
    name: 'creator-not-asked-again',
    breaks: 'A token keeps what its creator has lost.',
    edits: [
      {
        file: AUTHORIZATION,
        find: '    if (!mayAsk(subject, domain, permission)) return false;\n    const userId = userIdOf(subject);\n    const known',
        replace:
          "    if (!mayAsk(subject, domain, permission)) return false;\n    if (typeof subject !== 'string') return true;\n    const userId = userIdOf(subject);\n    const known",
      },
    ],
    specs: ['test/e2e/api-token-rights.spec.ts'],
  },
  {
    name: 'token-in-another-tenant',
    breaks: 'A token acts in every tenant of its creator’s.',
    edits: [
      {
        file: AUTHORIZATION,
        find: '(domain === tenantDomain(subject.tenantId) &&\n',
        replace: '(domain !== PLATFORM_DOMAIN &&\n',
      },
      {
        file: AUTHORIZATION,
        find: '    if (token.tenantId !== tenantId) return { all: false, groups: [], member: false };\n',
        replace: '',
      },
      {
        file: TENANT_GUARD,
        find: "  if (principal.kind === 'api_token') return principal.tenantId;\n",
        replace: "  if (principal.kind === 'api_token') return null;\n",
      },
    ],
    specs: ['test/e2e/api-token-rights.spec.ts#is for its own tenant'],
  },
  {
    name: 'publishable-token-lets-in',
    breaks: 'A token that stands in web pages for all to read opens what its scopes say.',
    edits: [
      {
        file: PERMISSION_GUARD,
        find: "  if (tokenKind === 'publishable') {",
        replace: "  if (tokenKind === 'publishable' && !tokens) {",
      },
    ],
    specs: [`${CREDENTIALS}#publishable`],
  },
  {
    name: 'agents-token-asks-past-them',
    breaks: 'A token that is kept to an agent asks the documents past it.',
    edits: [
      {
        file: PERMISSION_GUARD,
        find: '  if (agentIds && !asksAgents) {',
        replace: '  if (agentIds && !tokens) {',
      },
    ],
    specs: ['test/e2e/agents.spec.ts#a token that is kept to some agents', 'test/isolation/surfaces.spec.ts'],
  },
  {
    name: 'grant-opens-every-kb',
    breaks: 'Who was granted one knowledge base may do the same in each.',
    edits: [
      {
        file: AUTHORIZATION,
        find: 'grant => grant.kbId === reference || grant.slug === reference,',
        replace: "grant => grant.kbId === reference || grant.slug === reference || grant.role !== '',",
      },
    ],
    specs: ['test/e2e/groups-and-grants.spec.ts#a grant in an open knowledge base'],
  },
  {
    name: 'roles-above-ones-own-given',
    breaks: 'Whoever manages members makes owners of them.',
    edits: [
      {
        file: AUTHORIZATION,
        find: '    return given.every(permission => held.includes(permission));',
        replace: '    return given.every(permission => held.includes(permission)) || given.length > 0;',
      },
    ],
    specs: [`${STRANGERS}#give and take only what they hold`, 'test/e2e/members.spec.ts'],
  },
  {
    name: 'last-named-tenant-wins',
    breaks: 'A path says one tenant, a header another, and the header is believed.',
    edits: [
      {
        file: TENANT_GUARD,
        find: '      if (chosen && chosen.id !== tenant.id) throw mismatch(named.map(([source]) => source));\n',
        replace: '',
      },
    ],
    specs: [`${INJECTED}#a tenant named twice`],
  },
  {
    name: 'switched-tenant-not-compared',
    breaks: 'An access token that was switched to one tenant acts in another that the request names.',
    edits: [
      {
        file: TENANT_GUARD,
        find: 'if (fromToken && chosen && chosen.id !== fromToken)',
        replace: "if (fromToken && chosen && chosen.id !== fromToken && principal.kind !== 'user')",
      },
    ],
    specs: [`${INJECTED}#a tenant named twice`],
  },
  {
    name: 'switch-to-any-tenant',
    breaks: 'Whoever asks gets an access token for a tenant that is not theirs.',
    edits: [
      {
        file: 'src/entry/authentication/authentication.service.ts',
        find: 'if (!tenant || !(await this.authorization.accessOf(userId, tenant.id)).member) {',
        replace: 'if (!tenant) {',
      },
    ],
    specs: [`${FOREIGN_FIELDS}#signs nobody in`, FOREIGN_FIELDS],
  },
];
