import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import type { IsolationFinding } from './isolation-finding.js';
import { REGISTER_OF_MIGRATIONS, reachableFindings } from './reachable-objects.js';
import { PLATFORM_ROLE, TENANT_ROLE } from './roles.js';
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
  /** Whether the tenant role may read any of it. */
  readable: boolean;
  /** Those that are switched on. */
  triggers: string[];
  /** Columns that a role may read which no tenant narrows: the platform's, or the login role itself. */
  readElsewhere: string[];
  /** Those that hold for the tenant role, also through another one whose privileges it has. */
  policies: PolicyRow[];
}

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

/** What people say is their own, also where others see the knowledge base: by what their restrictive policy must ask. */
const OWN_CHATS: Record<string, string> = {
  chat_sessions: `'app.user_id'`,
  chat_messages: 'FROM chat_sessions',
  message_feedback: 'FROM chat_messages',
};

/** Tables of agents, which an API token may be kept to. */
const OF_AGENTS = ['agents', 'chat_sessions'];

/** Indexes of large knowledge bases; their tables of vectors are made while the application runs. */
const OF_LARGE_KB = /^large_(indexes|postings|vectors_\w+)$/;

/** Tables that keep what is in a knowledge base: an API token that is for others must not reach it. */
const IN_KNOWLEDGE_BASES = [...NARROWED, 'kb_grants', 'document_readers'];

/** What keeps the flags true that policies go by: a chunk's and a mention's that its document is restricted. */
const FLAGGED_BY: Record<string, readonly string[]> = {
  documents: ['documents_restriction', 'documents_restriction_of_mentions'],
  chunks: ['chunks_restriction'],
  chunk_vectors: ['chunk_vectors_restriction'],
  graph_entity_mentions: ['graph_entity_mentions_removed'],
  graph_relation_mentions: ['graph_relation_mentions_removed'],
};

/** What tenants write, and what is made from it: nothing for a role that sees all of them, but for what is named here. */
const WRITTEN_BY_TENANTS = [
  ...NARROWED,
  ...NARROWED_WITHIN,
  ...Object.keys(OWN_CHATS),
  'document_readers',
  'tenant_variables',
  'large_postings',
];
const columns = (...lines: string[]) => lines.join(' ').split(' ');
const READ_BY_PLATFORM: Record<string, readonly string[]> = {
  documents: columns(
    'id tenant_id kb_id job_id status stage attempts interruptions priority',
    'run_after picked_at lease_owner lease_expires_at created_at updated_at',
  ),
  knowledge_bases: columns(
    'id tenant_id slug visibility content_version chunk_count last_chunk_number',
    'ingestion_paused large_generation reindexing_to',
  ),
  answer_cache: columns('tenant_id key kb_ids content_versions expires_at used_at'),
};

/**
 * Reads from the catalogue whether row-level security stands as the code relies on it: for the roles that this process
 * runs as, for every table, and for whatever else they may touch. Then asks, as no tenant and as one that does not exist,
 * for a row of each table.
 *
 * @throws IsolationError naming each table or role that falls short
 */
export async function checkCatalogue(dataSource: DataSource): Promise<void> {
  const problems = (await readCatalogue(dataSource)).filter(({ ok }) => !ok);
  if (problems.length > 0) throw new IsolationError(problems.map(({ detail }) => detail).join('\n'));
}

/** The same, with what holds as well. */
export async function readCatalogue(dataSource: DataSource): Promise<IsolationFinding[]> {
  return [
    ...(await roleFindings(dataSource)),
    ...(await tableFindings(dataSource)),
    ...(await reachableFindings(dataSource)),
  ];
}

async function roleFindings(dataSource: DataSource): Promise<IsolationFinding[]> {
  const roles: RoleRow[] = await dataSource.query(`
    SELECT rolname AS name, rolsuper AS superuser, rolbypassrls AS bypasses FROM pg_roles
    WHERE pg_has_role(session_user, oid, 'MEMBER') ORDER BY rolname`);
  const [{ login }] = await dataSource.query('SELECT session_user AS login');
  // A superuser is a member of every role: its own fault explains all the others.
  const own = roles.filter(role => role.name === login && role.superuser);
  return (own.length > 0 ? own : roles).map(role => ({
    check: 'role',
    subject: role.name,
    ok: !role.superuser && !role.bypasses,
    detail: sentenceOn(role, login),
  }));
}

function sentenceOn({ name, superuser, bypasses }: RoleRow, login: string): string {
  if (superuser && name === login)
    return `The role ${login} is a superuser, whom row-level security does not hold. Connect as another role (DATABASE_URL).`;
  if (superuser)
    return `The role ${login} may become ${name}, which is a superuser. Take that membership away.`;
  if (bypasses)
    return `The role ${name} has BYPASSRLS, so row-level security does not hold it. Mend it with: ALTER ROLE ${name} NOBYPASSRLS`;
  return `The role ${name} is no superuser, and has no BYPASSRLS.`;
}

async function tableFindings(dataSource: DataSource): Promise<IsolationFinding[]> {
  const tables: TableRow[] = await dataSource.query(
    `SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
            pg_has_role(session_user, c.relowner, 'MEMBER') AS owned,
            has_any_column_privilege($2::name, c.oid, 'SELECT') AS readable,
            ARRAY(SELECT t.tgname::text FROM pg_trigger t
                  WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')) AS triggers,
            ARRAY(SELECT DISTINCT a.attname::text FROM pg_attribute a, pg_roles r
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND r.rolname IN ($3, session_user) AND NOT pg_has_role(r.oid, $2::name, 'USAGE')
                    AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')) AS "readElsewhere",
            CASE WHEN c.relname = 'tenants' THEN 'id'
                 WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
                              AND NOT a.attisdropped) THEN 'tenant_id' END AS "tenantColumn",
            coalesce((SELECT json_agg(json_build_object(
                        'name', p.polname, 'command', p.polcmd, 'permissive', p.polpermissive,
                        'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid)))
                      FROM pg_policy p
                      WHERE p.polrelid = c.oid
                        AND (p.polroles = '{0}' OR EXISTS (SELECT FROM unnest(p.polroles) AS role
                                                           WHERE pg_has_role($2::name, role, 'USAGE')))),
                     '[]') AS policies
     FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> $1
     ORDER BY c.relname`,
    [REGISTER_OF_MIGRATIONS, TENANT_ROLE, PLATFORM_ROLE],
  );
  const readable = tables.filter(table => table.readable).map(({ name }) => name);
  return [...tables.flatMap(findingsOn), ...(await probes(dataSource, readable))];
}

function findingsOn(table: TableRow): IsolationFinding[] {
  const { name } = table;
  const finding = (check: string, ok: boolean, holds: string, broken: string): IsolationFinding => ({
    check,
    subject: name,
    ok,
    detail: `The table ${name} ${ok ? holds : broken}.`,
  });
  return [
    finding(
      'owner',
      !table.owned,
      'is owned by a role that this process does not run as',
      'is owned by the role that this process runs as; it must own none',
    ),
    finding('row_security', table.enabled, 'has row-level security', 'has row-level security switched off'),
    ...(table.enabled
      ? [
          finding(
            'forced',
            table.forced,
            'forces row-level security on its owner',
            'does not force row-level security on its owner',
          ),
        ]
      : []),
    ...(table.tenantColumn ? policyFindings(table, table.tenantColumn) : []),
    ...(WRITTEN_BY_TENANTS.includes(name) || name.startsWith('large_vectors_')
      ? [closedToWhoeverSeesAll(table)]
      : []),
    ...(isAmong([...NARROWED, ...NARROWED_WITHIN], table)
      ? [
          finding(
            'granted_access',
            table.policies.some(narrowsByAccess),
            'keeps members to what is granted to them',
            `has no restrictive policy for the role ${TENANT_ROLE} that keeps members to what is granted to them`,
          ),
        ]
      : []),
    ...(name in FLAGGED_BY ? [flagged(table)] : []),
    ...(isAmong(IN_KNOWLEDGE_BASES, table)
      ? [
          finding(
            'token_kbs',
            table.policies.some(policy => narrowsBy(policy, `'app.kb_ids'`)),
            'keeps API tokens to their knowledge bases',
            `has no restrictive policy for the role ${TENANT_ROLE} that keeps API tokens to their knowledge bases`,
          ),
        ]
      : []),
    ...(name in OWN_CHATS
      ? [
          finding(
            'own_chats',
            table.policies.some(policy => narrowsBy(policy, OWN_CHATS[name] as string)),
            'keeps chats to whose they are',
            `has no restrictive policy for the role ${TENANT_ROLE} that keeps chats to whose they are`,
          ),
        ]
      : []),
    ...(OF_AGENTS.includes(name)
      ? [
          finding(
            'token_agents',
            table.policies.some(policy => narrowsBy(policy, `'app.agent_ids'`)),
            'keeps API tokens to their agents',
            `has no restrictive policy for the role ${TENANT_ROLE} that keeps API tokens to their agents`,
          ),
        ]
      : []),
  ];
}

function flagged({ name: subject, triggers }: TableRow): IsolationFinding {
  const missing = (FLAGGED_BY[subject] ?? []).filter(trigger => !triggers.includes(trigger));
  const ok = missing.length === 0;
  const detail = ok
    ? `The table ${subject} has the triggers that keep what is restricted flagged.`
    : `The table ${subject} lacks triggers that keep what is restricted flagged, or they are switched off: ${missing.join(', ')}.`;
  return { check: 'restriction_flags', subject, ok, detail };
}

function closedToWhoeverSeesAll({ name: subject, readElsewhere }: TableRow): IsolationFinding {
  const open = readElsewhere.filter(column => !READ_BY_PLATFORM[subject]?.includes(column));
  const ok = open.length === 0;
  const what = ok ? 'nothing that tenants write' : open.join(', ');
  const whom = `${PLATFORM_ROLE} or the role that connects, which are kept to no tenant`;
  return {
    check: 'written_by_tenants',
    subject,
    ok,
    detail: `The table ${subject} shows ${what} to ${whom}.`,
  };
}

const isAmong = (names: readonly string[], { name }: TableRow) =>
  names.includes(name) || OF_LARGE_KB.test(name);

/** Restrictive, for every command, and driven by who is looking. */
function narrowsByAccess(policy: PolicyRow): boolean {
  return !policy.permissive && policy.command === '*' && (policy.using?.includes(`'app.access'`) ?? false);
}

/** The same by whatever this expression stands for, and for what is written too. */
function narrowsBy({ permissive, command, using, check }: PolicyRow, expression: string): boolean {
  return !permissive && command === '*' && [using, check].every(part => part?.includes(expression) ?? false);
}

function policyFindings(table: TableRow, column: string): IsolationFinding[] {
  const { name: subject } = table;
  const permissive = table.policies.filter(policy => policy.permissive);
  if (!permissive.some(policy => policy.command === '*')) {
    const detail = `The table ${subject} has no policy for the role ${TENANT_ROLE} that covers every command.`;
    return [{ check: 'policy', subject, ok: false, detail }];
  }
  // Permissive policies add up: a single one that does not ask for the tenant opens the table.
  return permissive.map(policy => {
    const ok = asksForTenant(policy.using, column) && asksForTenant(policy.check, column);
    const does = ok ? 'compares' : 'does not compare';
    const detail = `The policy ${policy.name} of the table ${subject} ${does} ${column} with app.tenant_id in both USING and WITH CHECK.`;
    return { check: 'policy', subject, ok, detail };
  });
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

async function probes(dataSource: DataSource, tables: string[]): Promise<IsolationFinding[]> {
  if (tables.length === 0) return [];
  const probe = tables
    .map(name => `SELECT '${name}' AS name WHERE EXISTS (SELECT FROM ${name})`)
    .join(' UNION ALL ');
  const findings: IsolationFinding[] = [];
  for (const tenant of ['', randomUUID()]) {
    const rows = await runTransaction<Array<{ name: string }>>(
      dataSource,
      // With access to all: else what narrows a tenant's own rows would hide others' as well.
      `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${tenant}'; SET LOCAL app.access = 'all'`,
      tx => tx.query(probe),
    );
    const leaking = new Set(rows.map(({ name }) => name));
    const who = tenant ? 'a tenant that does not exist' : 'nobody';
    for (const subject of tables) {
      const ok = !leaking.has(subject);
      const detail = ok
        ? `The table ${subject} shows no row to ${who}.`
        : `The table ${subject} shows rows to ${who}.`;
      findings.push({ check: tenant ? 'unknown_tenant' : 'nobody', subject, ok, detail });
    }
  }
  return findings;
}
