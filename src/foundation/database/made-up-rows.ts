import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import type { IsolationFinding } from './isolation-finding.js';
import { TENANT_ROLE } from './roles.js';
import { runTransaction } from './transaction.js';

interface Policy {
  name: string;
  permissive: boolean;
  /** As PostgreSQL prints them. */
  conditions: Record<'USING' | 'WITH CHECK', string | null>;
}

interface Table {
  name: string;
  /** What SELECT makes it of: in columns for ids one that nobody has, in those for flags what `flag` says, else NULL. */
  row: string;
  /** Those that hold for the tenant role. */
  policies: Policy[];
}

/** Of tables, in one statement. */
const BATCH = 50;

/**
 * Has each policy decide about rows that nobody has written, with a tenant, a knowledge base, a user and whatever else in
 * them that there is none of. None may let one through to somebody who is nobody in a tenant of their own; nor, to whoever
 * has no tenant at all, one of those that open a table. That finds a condition that reads well and holds for everything,
 * in an empty table too.
 */
export async function madeUpRowFindings(dataSource: DataSource): Promise<IsolationFinding[]> {
  const tables: Table[] = await dataSource.query(
    `SELECT c.relname AS name,
            (SELECT string_agg(
               CASE a.atttypid WHEN 'bool'::regtype THEN 'flag'
                               WHEN 'uuid'::regtype THEN quote_literal(gen_random_uuid()) || '::uuid'
                               ELSE 'NULL::' || format_type(a.atttypid, a.atttypmod) END || ' AS ' || quote_ident(a.attname), ', ')
             FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS row,
            json_agg(json_build_object(
              'name', p.polname, 'permissive', p.polpermissive,
              'conditions', json_build_object('USING', pg_get_expr(p.polqual, c.oid), 'WITH CHECK', pg_get_expr(p.polwithcheck, c.oid)))) AS policies
     FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid
     WHERE c.relnamespace = 'public'::regnamespace
       AND (p.polroles = '{0}' OR EXISTS (SELECT FROM unnest(p.polroles) AS role WHERE pg_has_role($1::name, role, 'USAGE')))
     GROUP BY c.oid, c.relname ORDER BY c.relname`,
    [TENANT_ROLE],
  );
  const through = new Map<string, Set<string>>(tables.map(({ name }) => [name, new Set()]));
  for (let from = 0; from < tables.length; from += BATCH) {
    const batch = tables.slice(from, from + BATCH);
    const opening = batch.map(table => ({
      ...table,
      policies: table.policies.filter(({ permissive }) => permissive),
    }));
    const found = [
      ...(await lettingThrough(dataSource, asStranger(), batch)),
      ...(await lettingThrough(dataSource, '', opening)),
    ];
    for (const { table, policy } of found) through.get(table)?.add(policy);
  }
  return [...through].map(([subject, policies]) => {
    const ok = policies.size === 0;
    const detail = ok
      ? `No policy of the table ${subject} lets a row through that nobody has written.`
      : `Of the table ${subject}, policies let rows through that nobody has written: ${[...policies].join(', ')}.`;
    return { check: 'made_up_row', subject, ok, detail };
  });
}

/** A member without any grant, through an API token for a knowledge base and an agent that there are none of. */
function asStranger(): string {
  const settings = {
    tenant_id: randomUUID(),
    user_id: randomUUID(),
    access: 'granted',
    kb_ids: `{${randomUUID()}}`,
    agent_ids: `{${randomUUID()}}`,
  };
  return Object.entries(settings)
    .map(([name, value]) => `; SET LOCAL app.${name} = '${value}'`)
    .join('');
}

async function lettingThrough(
  dataSource: DataSource,
  context: string,
  tables: readonly Table[],
): Promise<Array<{ table: string; policy: string }>> {
  const questions = tables.flatMap(table => table.policies.flatMap(policy => questionsOn(table, policy)));
  if (questions.length === 0) return [];
  return runTransaction(dataSource, `SET LOCAL ROLE ${TENANT_ROLE}${context}`, tx =>
    tx.query(questions.join('\nUNION ALL ')),
  );
}

function questionsOn({ name: table, row }: Table, { name, permissive, conditions }: Policy): string[] {
  return (
    Object.entries(conditions)
      // A restrictive one that says true narrows nothing, and opens nothing: what must narrow is looked for elsewhere.
      .filter(([, condition]) => condition !== null && (permissive || condition !== 'true'))
      .map(
        ([kind, condition]) => `
      SELECT ${pg.escapeLiteral(table)} AS table, ${pg.escapeLiteral(`${name} (${kind})`)} AS policy
      FROM (SELECT ${row} FROM (VALUES (true), (false)) AS either(flag)) AS ${pg.escapeIdentifier(table)}
      WHERE ${condition}`,
      )
  );
}
