/** The next key of a loose scan through an index: as many look-ups as there are different values, however many rows. */
const looseScan = (name: string, column: string, condition: string): string => `
      ${name} AS (
        (SELECT ${column} FROM documents WHERE ${condition} ORDER BY ${column} LIMIT 1)
        UNION ALL
        SELECT (SELECT d.${column} FROM documents d WHERE ${condition} AND d.${column} > ${name}.${column}
                ORDER BY d.${column} LIMIT 1)
        FROM ${name} WHERE ${name}.${column} IS NOT NULL
      )`;

const WAITS = `status = 'queued' AND stage IS NULL`;
/** Whoever was told to take it has had the time to. */
const NOT_PICKED = `(d.picked_at IS NULL OR d.picked_at < now() - interval '10 seconds')`;

/**
 * `pick_document() -> (document_id, tenant_id)`: the next document to be ingested, of all tenants, or no row. In a
 * transaction of the platform, which knows ids and places in the queue only.
 *
 * Of the active tenants with something to do and fewer documents under way than their limit `max_concurrent_jobs`, the
 * one that was served longest ago; of its documents in knowledge bases that are not paused, and those whose worker has
 * died, the one that has ended the fewest processes, has the highest priority, is the oldest. Whoever holds a document
 * locked delays nobody else's turn.
 */
export const pickDocument = `
CREATE FUNCTION pick_document() RETURNS TABLE (document_id uuid, tenant_id uuid)
LANGUAGE plpgsql SET search_path = public AS $$
#variable_conflict use_column
DECLARE
  candidate record;
  picked uuid;
BEGIN
  -- One after the other: two at once would take a tenant past its limit, or serve the same one twice.
  PERFORM pg_advisory_xact_lock(hashtextextended('pick_document', 0));
  -- A pick that a crash takes back is made again.
  PERFORM set_config('synchronous_commit', 'off', true);
  FOR candidate IN
    WITH RECURSIVE ${looseScan('waiting', 'tenant_id', WAITS)}, under_way AS (
        SELECT tenant_id, count(*) FILTER (WHERE lease_expires_at >= now()) AS running,
               bool_or(lease_expires_at < now()) AS abandoned
        FROM documents WHERE status = 'processing' GROUP BY tenant_id
      ), called AS (
        SELECT tenant_id, count(*) AS running FROM documents
        WHERE picked_at >= now() - interval '10 seconds' AND status = 'queued' GROUP BY tenant_id
      )
    SELECT t.id
    FROM (SELECT tenant_id FROM waiting WHERE tenant_id IS NOT NULL
          UNION SELECT tenant_id FROM under_way WHERE abandoned) AS todo
    JOIN tenants t ON t.id = todo.tenant_id AND t.status = 'active'
    JOIN tenant_counters c ON c.tenant_id = t.id
    LEFT JOIN ingestion_turns turn ON turn.tenant_id = t.id
    LEFT JOIN under_way ON under_way.tenant_id = t.id
    LEFT JOIN called ON called.tenant_id = t.id
    WHERE NOT c.enforced OR c.limits->>'max_concurrent_jobs' IS NULL
       OR coalesce(under_way.running, 0) + coalesce(called.running, 0) < (c.limits->>'max_concurrent_jobs')::bigint
    ORDER BY turn.last_turn_at NULLS FIRST, t.id
  LOOP
    WITH RECURSIVE ${looseScan('kbs', 'kb_id', `tenant_id = candidate.id AND ${WAITS}`)}
    SELECT head.id INTO picked
    FROM (
      SELECT own.* FROM kbs
      JOIN knowledge_bases kb ON kb.id = kbs.kb_id AND NOT kb.ingestion_paused
      CROSS JOIN LATERAL (
        SELECT d.id, d.interruptions, d.priority, d.created_at FROM documents d
        WHERE d.tenant_id = candidate.id AND d.kb_id = kb.id AND ${WAITS} AND d.run_after <= now() AND ${NOT_PICKED}
        ORDER BY d.interruptions, d.priority DESC, d.created_at, d.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
      ) AS own
      UNION ALL
      SELECT own.* FROM (
        SELECT d.id, d.interruptions, d.priority, d.created_at FROM documents d
        WHERE d.tenant_id = candidate.id AND d.status = 'processing' AND d.lease_expires_at < now() AND ${NOT_PICKED}
        ORDER BY d.interruptions, d.priority DESC, d.created_at, d.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
      ) AS own
    ) AS head
    ORDER BY head.interruptions, head.priority DESC, head.created_at, head.id LIMIT 1;
    CONTINUE WHEN picked IS NULL;

    UPDATE documents SET picked_at = now() WHERE id = picked;
    INSERT INTO ingestion_turns (tenant_id, last_turn_at) VALUES (candidate.id, clock_timestamp())
    ON CONFLICT (tenant_id) DO UPDATE SET last_turn_at = excluded.last_turn_at;
    RETURN QUERY SELECT picked, candidate.id;
    RETURN;
  END LOOP;
END $$`;
