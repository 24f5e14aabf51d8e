/**
 * The table of vectors that belongs to an index of `large_indexes` is there as long as the index's row is, because these
 * triggers make and drop it. The running role owns nothing and may not make tables: whoever migrated does it for it, and
 * takes from the row nothing but ids, after row-level security and the foreign key have let the row in.
 *
 * A table for each index, because one approximate index for all tenants filters after it has found: under row-level
 * security it returns too few rows, and its neighbours change what they are.
 */

/** `large_vectors_<32 hex digits of the kb>_<generation>` */
const vectorsName = (row: 'OLD' | 'NEW') =>
  `format('large_vectors_%s_%s', replace(${row}.kb_id::text, '-', ''), ${row}.generation)`;

/** pg_temp last: it would be searched first where it is not named. */
const AS_OWNER = 'SECURITY DEFINER SET search_path = public, pg_temp';

/**
 * `sees_kb(kb) -> boolean`: whether who asks may see the kb, under the policies of `knowledge_bases`. Its plan is kept,
 * where a policy that asked the same would have all of theirs planned with every search.
 */
const seesKb = `
CREATE FUNCTION sees_kb(kb uuid) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = public AS $$
BEGIN
  RETURN EXISTS (SELECT FROM knowledge_bases WHERE id = kb);
END $$`;

/**
 * With the policies of `large_postings`, as they stand in the catalogue, but for the one that asks for grants: what
 * closes the one closes the other. No foreign key leads to shared tables, since making one would wait for everybody who
 * writes to them, and they for it.
 */
const granted = `(SELECT current_setting(''app.access'', true) = ''all'') OR (SELECT sees_kb(%2$L))`;

const makeLargeVectors = (tenantRole: string) => `
CREATE FUNCTION make_large_vectors() RETURNS trigger LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  name text := ${vectorsName('NEW')};
  policy record;
BEGIN
  EXECUTE format(
    'CREATE TABLE %1$I (number integer PRIMARY KEY, tenant_id uuid NOT NULL CHECK (tenant_id = %2$L), '
    'kb_id uuid NOT NULL CHECK (kb_id = %3$L), embedding halfvec(%4$s) NOT NULL)',
    name, NEW.tenant_id, NEW.kb_id, NEW.dimensions);
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
  FOR policy IN
    SELECT polname, polpermissive, pg_get_expr(polqual, polrelid) AS condition, pg_get_expr(polwithcheck, polrelid) AS added
    FROM pg_policy WHERE polrelid = 'large_postings'::regclass AND polcmd = '*' AND polname <> 'granted_access'
  LOOP
    EXECUTE format('CREATE POLICY %I ON %I AS %s FOR ALL TO ${tenantRole} USING (%s) WITH CHECK (%s)',
      policy.polname, name, CASE WHEN policy.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
      policy.condition, policy.added);
  END LOOP;
  EXECUTE format(
    'CREATE POLICY granted_access ON %1$I AS RESTRICTIVE FOR ALL TO ${tenantRole} '
    'USING (${granted}) WITH CHECK (${granted})', name, NEW.kb_id);
  EXECUTE format('GRANT SELECT, INSERT, DELETE ON %I TO ${tenantRole}', name);
  RETURN NULL;
END $$`;

/**
 * Of vectors that are there already, a few minutes' work becomes seconds. In one process: the workers of a parallel build
 * want more shared memory than a container has, and fail without it.
 */
const indexLargeVectors = `
CREATE FUNCTION index_large_vectors() RETURNS trigger LANGUAGE plpgsql ${AS_OWNER}
SET maintenance_work_mem = '256MB' SET max_parallel_maintenance_workers = 0 AS $$
BEGIN
  EXECUTE format('CREATE INDEX ON %I USING hnsw (embedding halfvec_ip_ops)', ${vectorsName('NEW')});
  RETURN NULL;
END $$`;

const dropLargeVectors = `
CREATE FUNCTION drop_large_vectors() RETURNS trigger LANGUAGE plpgsql ${AS_OWNER} AS $$
BEGIN
  EXECUTE format('DROP TABLE IF EXISTS %I', ${vectorsName('OLD')});
  RETURN NULL;
END $$`;

/**
 * `nearest_in_large(kb, generation, question, most) -> setof integer`: numbers of the chunks whose vectors are about the
 * nearest, of those in the index. None where the index is gone, which a statement that has just read its row may meet.
 *
 * As the caller, under row-level security. The table's name is made here, so that one statement serves all knowledge
 * bases, and the settings leave the planner no other way than the index.
 */
const nearestInLarge = `
CREATE FUNCTION nearest_in_large(kb uuid, generation integer, question halfvec, most integer) RETURNS SETOF integer
LANGUAGE plpgsql STABLE STRICT SET search_path = public SET enable_seqscan = off SET enable_sort = off
SET hnsw.ef_search = 100 SET hnsw.iterative_scan = relaxed_order AS $$
BEGIN
  -- As wide as what is asked for: going on beyond it would cost as much again.
  PERFORM set_config('hnsw.ef_search', least(greatest(most, 40), 1000)::text, true);
  RETURN QUERY EXECUTE format('SELECT number FROM large_vectors_%s_%s ORDER BY embedding <#> $1 LIMIT $2',
                              replace(kb::text, '-', ''), generation)
    USING question, most;
EXCEPTION WHEN undefined_table THEN
  RETURN;
END $$`;

/** @param tenantRole the role that tenants' transactions run as */
export const largeIndexFunctions = (tenantRole: string): readonly string[] => [
  seesKb,
  makeLargeVectors(tenantRole),
  indexLargeVectors,
  dropLargeVectors,
  nearestInLarge,
];
