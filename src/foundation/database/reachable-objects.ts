import type { DataSource } from 'typeorm';
import type { IsolationFinding } from './isolation-finding.js';
import { PLATFORM_ROLE, TENANT_ROLE } from './roles.js';

interface Known {
  /** Those that may touch it, and with them whoever may become one of them. */
  roles: readonly string[];
  why: string;
}

const BOTH = [TENANT_ROLE, PLATFORM_ROLE];
const PLATFORM = [PLATFORM_ROLE];

/**
 * What a running role may touch beside tables that keep tenants apart by their `tenant_id`. What is in neither of these
 * lists stops the start: a view reads with its owner's eyes, and a materialized view or a foreign table has no
 * row-level security at all.
 */
const RELATIONS: Record<string, Known> = {
  'public.users': { roles: BOTH, why: 'to a tenant its policy shows its own members, and no password' },
  'public.auth_sessions': { roles: PLATFORM, why: 'somebody signs in before any tenant is known' },
  'public.password_tokens': { roles: PLATFORM, why: 'somebody signs in before any tenant is known' },
  'public.job_schedules': { roles: PLATFORM, why: 'it says when the installation’s own work is due' },
  'public.plans': { roles: PLATFORM, why: 'plans are the installation’s' },
  'public.platform_models': { roles: PLATFORM, why: 'these models are the installation’s' },
  'public.prices': { roles: PLATFORM, why: 'prices are the installation’s' },
  'public.tenant_templates': { roles: PLATFORM, why: 'templates are the installation’s' },
};

/** The same of functions that run as their owner, whom row-level security may not hold. */
const FUNCTIONS: Record<string, Known> = {
  'public.set_local(text,text)': { roles: BOTH, why: 'it reads no table' },
};

/** To be read by whoever runs, also before a role is taken: it names migrations. */
export const REGISTER_OF_MIGRATIONS = 'migrations';

interface ReachableRow {
  name: string;
  kind: string;
  /** Of those that this process runs as: the ones that may touch it, with all that each may become. */
  reachedBy: Array<{ name: string; becomes: string[] }>;
}

const KINDS: Record<string, string> = {
  r: 'table',
  p: 'table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
};

const RUNNING_ROLES = `
  running AS (
    SELECT r.oid, r.rolname AS name,
           ARRAY(SELECT b.rolname::text FROM pg_roles b WHERE pg_has_role(r.oid, b.oid, 'MEMBER')) AS becomes
    FROM pg_roles r WHERE pg_has_role(session_user, r.oid, 'MEMBER')
  ),
  schemas AS (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp_|toast_temp_)'
  )`;

/** What an extension brings along knows none of the application's tables. */
const ofNoExtension = (catalogue: string, oid: string) =>
  `NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '${catalogue}'::regclass AND d.objid = ${oid} AND d.deptype = 'e')`;

const json = `json_agg(json_build_object('name', r.name, 'becomes', r.becomes) ORDER BY r.name) AS "reachedBy"`;

/** Reads from the catalogue what the roles may touch that this process runs as, whatever it is and in every schema. */
export async function reachableFindings(dataSource: DataSource): Promise<IsolationFinding[]> {
  const relations: ReachableRow[] = await dataSource.query(
    `WITH ${RUNNING_ROLES}
     SELECT n.nspname || '.' || c.relname AS name, c.relkind AS kind, ${json}
     FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace JOIN running r
       ON has_schema_privilege(r.oid, n.oid, 'USAGE')
      AND (has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE, TRIGGER')
           OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ${ofNoExtension('pg_class', 'c.oid')}
       AND NOT (n.nspname = 'public' AND c.relkind IN ('r', 'p') AND (c.relname IN ('tenants', $1)
         OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)))
     GROUP BY 1, 2 ORDER BY 1`,
    [REGISTER_OF_MIGRATIONS],
  );
  const functions: ReachableRow[] = await dataSource.query(
    `WITH ${RUNNING_ROLES}
     SELECT n.nspname || '.' || p.proname || '(' || array_to_string(p.proargtypes::regtype[], ',') || ')' AS name,
            'function' AS kind, ${json}
     FROM pg_proc p JOIN schemas n ON n.oid = p.pronamespace JOIN running r
       ON has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
     WHERE p.prosecdef AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
       AND ${ofNoExtension('pg_proc', 'p.oid')}
     GROUP BY 1, 2 ORDER BY 1`,
  );
  return [
    ...relations.map(row => findingOn(row, RELATIONS[row.name])),
    ...functions.map(row => findingOn(row, FUNCTIONS[row.name])),
  ];
}

function findingOn({ name, kind, reachedBy }: ReachableRow, known: Known | undefined): IsolationFinding {
  const what = `The ${KINDS[kind] ?? kind} ${name}`;
  const strangers = reachedBy.filter(role => !known?.roles.some(listed => role.becomes.includes(listed)));
  const names = strangers.map(role => role.name).join(', ');
  const detail =
    strangers.length > 0
      ? `${what} may be used by ${names}, and is nothing of which the application knows that it keeps tenants apart. Mend it with: REVOKE ALL ON ${kind === 'function' ? 'FUNCTION ' : ''}${name} FROM PUBLIC, ${names}`
      : `${what} may be used by ${reachedBy.map(role => role.name).join(', ')}: ${known?.why}.`;
  return { check: 'reachable', subject: name, ok: strangers.length === 0, detail };
}
