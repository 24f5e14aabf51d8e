/** What statements of this application set for the rest of their transaction. None of it says which tenant it is. */
const SETTABLE = ['app.access', 'app.chats', 'hnsw.ef_search', 'synchronous_commit'];

/**
 * `set_local(name, value) -> text`: `set_config(name, value, true)` for the few settings that this application changes
 * in the middle of a transaction. In the place of PostgreSQL's own, which changes any: the role and the tenant, too.
 */
export const setLocal = `
CREATE FUNCTION set_local(name text, value text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF name <> ALL ('{${SETTABLE.join(',')}}') THEN
    RAISE insufficient_privilege USING MESSAGE = 'This is not set by a function.';
  END IF;
  RETURN set_config(name, value, true);
END $$`;
