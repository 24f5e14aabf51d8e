import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { TENANT_ROLE } from './roles.js';
import { runTransaction } from './transaction.js';

/** The database would let one tenant see another's rows, or cannot show that it would not. */
export class IsolationError extends Error {
  override readonly name = 'IsolationError';
}

interface RoleRow {
  name: string;
  superuser: boolean;
  bypasses: boolean;
}

interface PolicyRow {
  name: string;
  /** `*` for all, else r, a, w, d. */
  command: string;
  permissive: boolean;
  using: string | null;
  check: string | null;
}

interface TableRow {
  name: string;
  tenantColumn: 'tenant_id' | 'id' | null;
  enabled: boolean;
  forced: boolean;
  owned: boolean;
  /** Those that hold for the tenant role. */
  policies: PolicyRow[];
}

/** Tables that hold no data of the application. */
const EXEMPT = ['migrations'];

/** Tables of which a member may see a part only: those need a restrictive policy that asks who is looking. */
const NARROWED = [
  'knowledge_bases',
  'kb_terms',
  'documents',
  'document_versions',
  'chunks',
  'chunk_vectors',
  'ingestions',
  'staged_chunks',
  'staged_vectors',
  'answer_cache',
  'agents',
  'chat_sessions',
  'graph_entities',
  'graph_entity_mentions',
  'graph_relations',
  'graph_relation_mentions',
  'staged_extractions',
  'staged_entities',
  'evaluations',
];

/** The same for tables that reach a knowledge base, and what tokens see of it, through another table alone. */
const NARROWED_WITHIN = ['evaluation_questions', 'evaluation_results'];

/** Indexes of large knowledge bases; their tables of vectors are made while the application runs. */
const OF_LARGE_KB = /^large_(indexes|postings|vectors_\w+)$/;

/** Tables that keep what is in a knowledge base: an API token that is for others must not reach it. */
const IN_KNOWLEDGE_BASES = [...NARROWED, 'kb_grants', 'document_readers'];

/**
 * Reads from the catalogue whether row-level security stands as the code relies on it: for the roles that this process
 * runs as, and for every table. Then asks, as no tenant and as one that does not exist, for a row of each table.
 *
 * @throws IsolationError naming each table or role that falls short
 */
export async function checkCatalogue(dataSource: DataSource): Promise<void> {
  const problems = [...(await checkRoles(dataSource)), ...(await checkTables(dataSource))];
  if (problems.length > 0) throw new IsolationError(problems.join('\n'));
}

async function checkRoles(dataSource: DataSource): Promise<string[]> {
  const roles: RoleRow[] = await dataSource.query(`
    SELECT rolname AS name, rolsuper AS superuser, rolbypassrls AS bypasses FROM pg_roles
    WHERE pg_has_role(session_user, oid, 'MEMBER') AND (rolsuper OR rolbypassrls) ORDER BY rolname`);
  const [{ login }] = await dataSource.query('SELECT session_user AS login');
  const own = roles.find(role => role.name === login);
  // A superuser is a member of every role: its own fault explains all the others.
  if (own?.superuser) {
    return [
      `The role ${login} is a superuser, whom row-level security does not hold. Connect as another role (DATABASE_URL).`,
    ];
  }
  return roles.map(role =>
    role.superuser
      ? `The role ${login} may become ${role.name}, which is a superuser. Take that membership away.`
      : `The role ${role.name} has BYPASSRLS, so row-level security does not hold it. Mend it with: ALTER ROLE ${role.name} NOBYPASSRLS`,
  );
}

async function checkTables(dataSource: DataSource): Promise<string[]> {
  const tables: TableRow[] = await dataSource.query(
    `SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
            pg_has_role(session_user, c.relowner, 'MEMBER') AS owned,
            CASE WHEN c.relname = 'tenants' THEN 'id'
                 WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
                              AND NOT a.attisdropped) THEN 'tenant_id' END AS "tenantColumn",
            coalesce((SELECT json_agg(json_build_object(
                        'name', p.polname, 'command', p.polcmd, 'permissive', p.polpermissive,
                        'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid)))
                      FROM pg_policy p
                      WHERE p.polrelid = c.oid
                        AND (p.polroles = '{0}' OR (SELECT oid FROM pg_roles WHERE rolname = $2) = ANY (p.polroles))),
                     '[]') AS policies
     FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> ALL ($1)
     ORDER BY c.relname`,
    [EXEMPT, TENANT_ROLE],
  );
  const problems = tables.flatMap(tableProblems);
  const readable = tables
    .filter(table => table.tenantColumn && problems.length === 0)
    .map(table => table.name);
  return [...problems, ...(await leakingTables(dataSource, readable))];
}

function tableProblems(table: TableRow): string[] {
  const problems: string[] = [];
  if (table.owned)
    problems.push(
      `The table ${table.name} is owned by the role that this process runs as; it must own none.`,
    );
  if (!table.enabled) problems.push(`The table ${table.name} has row-level security switched off.`);
  else if (!table.forced)
    problems.push(`The table ${table.name} does not force row-level security on its owner.`);
  if (table.tenantColumn) problems.push(...policyProblems(table, table.tenantColumn));
  if (isAmong([...NARROWED, ...NARROWED_WITHIN], table) && !table.policies.some(narrowsByAccess)) {
    problems.push(
      `The table ${table.name} has no restrictive policy for the role ${TENANT_ROLE} that keeps members to what is granted to them.`,
    );
  }
  if (isAmong(IN_KNOWLEDGE_BASES, table) && !table.policies.some(narrowsByToken)) {
    problems.push(
      `The table ${table.name} has no restrictive policy for the role ${TENANT_ROLE} that keeps API tokens to their knowledge bases.`,
    );
  }
  return problems;
}

const isAmong = (names: readonly string[], { name }: TableRow) =>
  names.includes(name) || OF_LARGE_KB.test(name);

/** Restrictive, for every command, and driven by who is looking. */
function narrowsByAccess(policy: PolicyRow): boolean {
  return !policy.permissive && policy.command === '*' && (policy.using?.includes(`'app.access'`) ?? false);
}

/** The same for the token through which they look, and for what it writes. */
function narrowsByToken({ permissive, command, using, check }: PolicyRow): boolean {
  return (
    !permissive &&
    command === '*' &&
    [using, check].every(expression => expression?.includes(`'app.kb_ids'`) ?? false)
  );
}

function policyProblems(table: TableRow, column: string): string[] {
  const permissive = table.policies.filter(policy => policy.permissive);
  if (!permissive.some(policy => policy.command === '*')) {
    return [`The table ${table.name} has no policy for the role ${TENANT_ROLE} that covers every command.`];
  }
  // Permissive policies add up: a single one that does not ask for the tenant opens the table.
  return permissive
    .filter(policy => !asksForTenant(policy.using, column) || !asksForTenant(policy.check, column))
    .map(
      policy =>
        `The policy ${policy.name} of the table ${table.name} does not compare ${column} with app.tenant_id in both USING and WITH CHECK.`,
    );
}

/**
 * PostgreSQL prints a policy's expression in its own spelling, with the comparison in front. Further conditions may
 * narrow it with AND; an OR could open what it closes.
 */
function asksForTenant(expression: string | null, column: string): boolean {
  if (expression === null || / OR /.test(expression)) return false;
  const bare = expression.replace(/^\(+/, '');
  return bare.startsWith(`${column} = ( SELECT`) && bare.includes(`'app.tenant_id'`);
}

async function leakingTables(dataSource: DataSource, tables: string[]): Promise<string[]> {
  if (tables.length === 0) return [];
  const probe = tables
    .map(name => `SELECT '${name}' AS name WHERE EXISTS (SELECT FROM ${name})`)
    .join(' UNION ALL ');
  const problems: string[] = [];
  for (const tenant of ['', randomUUID()]) {
    const rows = await runTransaction<Array<{ name: string }>>(
      dataSource,
      `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${tenant}'`,
      tx => tx.query(probe),
    );
    const who = tenant ? 'a tenant that does not exist' : 'nobody';
    problems.push(...rows.map(({ name }) => `The table ${name} shows rows to ${who}.`));
  }
  return problems;
}
