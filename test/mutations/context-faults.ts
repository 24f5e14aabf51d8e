import type { Fault } from './fault.js';

const TENANT_DATABASE = 'src/core/tenancy/tenant-database.ts';
const TRANSACTION = 'src/foundation/database/transaction.ts';
const CONNECTIONS = 'test/isolation/connections.spec.ts';

/** How a transaction, a request and a job come into their tenant. */
export const CONTEXT_FAULTS: readonly Fault[] = [
  {
    name: 'set-instead-of-set-local',
    breaks: 'A pooled connection keeps the tenant of the request before.',
    edits: [
      {
        file: TENANT_DATABASE,
        find: '`SET LOCAL app.tenant_id = ',
        replace: '`SET app.tenant_id = ',
      },
    ],
    specs: [CONNECTIONS],
  },
  {
    name: 'role-kept-on-the-connection',
    breaks: 'A pooled connection keeps the role of the request before.',
    edits: [
      {
        file: TENANT_DATABASE,
        find: '`SET LOCAL ROLE ${TENANT_ROLE}; `',
        replace: '`SET ROLE ${TENANT_ROLE}; `',
      },
    ],
    specs: [CONNECTIONS],
  },
  {
    name: 'no-rollback',
    breaks: 'After an error the connection goes back into the pool with its transaction open, in its tenant.',
    edits: [{ file: TRANSACTION, find: "    await runner.query('ROLLBACK');\n", replace: '' }],
    specs: [CONNECTIONS],
  },
  {
    name: 'context-of-the-first-request',
    breaks: 'Whatever a member of two tenants asks, it is asked in the one that they have entered first.',
    edits: [
      {
        file: TENANT_DATABASE,
        find: 'pg.escapeLiteral(this.context.tenant.id)',
        replace: 'pg.escapeLiteral(this.firstTenant())',
      },
      {
        file: TENANT_DATABASE,
        find: '  private enter(): string {\n',
        // Of members who read: whoever prepares the tests writes, and would only fall over the policies.
        replace: `  private readonly first = new Map<string, string>();

  private firstTenant(): string {
    const { principal, tenant, access } = this.context;
    if (principal.kind !== 'user' || !access.member || access.all) return tenant.id;
    if (!this.first.has(principal.userId)) this.first.set(principal.userId, tenant.id);
    return this.first.get(principal.userId) as string;
  }

  private enter(): string {
`,
      },
    ],
    specs: ['test/attacks/paths.spec.ts#whoever is a member of both'],
  },
  {
    name: 'everybody-sees-all',
    breaks: 'Grants and lists of readers hold for nobody: every member enters as an owner does.',
    edits: [
      {
        file: TENANT_DATABASE,
        find: "`SET LOCAL app.access = '${all ? 'all' : 'granted'}'`",
        replace: "`SET LOCAL app.access = '${all ? 'all' : 'all'}'`",
      },
    ],
    specs: ['test/e2e/document-access.spec.ts#is not there for anybody else'],
  },
  {
    name: 'token-enters-without-its-kbs',
    breaks: 'A token for one knowledge base enters the tenant as one for all.',
    edits: [
      { file: TENANT_DATABASE, find: '(kbIds ? `; SET LOCAL', replace: '(kbIds && false ? `; SET LOCAL' },
    ],
    specs: ['test/e2e/api-token-kbs.spec.ts'],
  },
  {
    name: 'token-enters-as-its-creator',
    breaks: 'A token reads and goes on with the chats of whoever has made it.',
    edits: [
      {
        file: TENANT_DATABASE,
        find: "(principal.kind === 'api_token'\n",
        replace: "(principal.kind === 'api_token' && !principal\n",
      },
    ],
    specs: ['test/e2e/chat.spec.ts#another member’s are not there'],
    crashes: 'the database takes no message from a token that it was not told of',
  },
  {
    name: 'job-in-another-tenant',
    breaks: 'A job is worked on in the tenant of the job before it.',
    edits: [
      {
        file: 'src/core/jobs/job-runner.service.ts',
        find: '    const tenant = job.tenantId ? await this.directory.find(job.tenantId) : null;\n',
        replace:
          '    const tenant = job.tenantId ? await this.directory.find((this.before ??= job.tenantId)) : null;\n',
      },
      {
        file: 'src/core/jobs/job-runner.service.ts',
        find: '  private async work(\n',
        replace: '  private before?: string;\n\n  private async work(\n',
      },
    ],
    specs: ['test/e2e/retrieval.spec.ts#the language of a knowledge base'],
  },
];
