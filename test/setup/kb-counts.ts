import type { DataSource } from 'typeorm';
import { expect } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { FileStorage } from '../../src/foundation/storage/file-storage.js';
import type { TestApplication } from './application.js';
import { asSuperuser } from './superuser.js';

/** Runs statements as the database's superuser. */
export async function sql<Row = any>(
  app: TestApplication,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => (await client.query(text, values)).rows as Row[]);
}

/** Every statistic of a knowledge base, as it is kept and as it is counted. */
const KEPT_AND_COUNTED = `
  SELECT kb.document_count, (SELECT count(*)::int FROM documents d WHERE d.kb_id = kb.id) AS documents_counted,
         kb.storage_bytes::float8, (SELECT coalesce(sum(size_bytes), 0)::float8 FROM documents d WHERE d.kb_id = kb.id) AS bytes_counted,
         kb.chunk_count, (SELECT count(*)::int FROM chunks c WHERE c.kb_id = kb.id) AS chunks_counted,
         (SELECT count(*)::int FROM chunk_vectors v WHERE v.kb_id = kb.id) AS vectors_counted,
         (SELECT coalesce(sum(chunk_count), 0)::int FROM documents d WHERE d.kb_id = kb.id) AS chunks_of_documents,
         kb.lexeme_count::float8, (SELECT coalesce(sum(length), 0)::float8 FROM chunk_vectors v WHERE v.kb_id = kb.id) AS lexemes_counted,
         (SELECT count(*)::int FROM (
            (SELECT term, document_frequency FROM kb_terms t WHERE t.kb_id = kb.id
             EXCEPT SELECT term, count(*) FROM chunk_vectors v, sparsevec_indices(lexical) AS term WHERE v.kb_id = kb.id GROUP BY term)
            UNION ALL
            (SELECT term, count(*) FROM chunk_vectors v, sparsevec_indices(lexical) AS term WHERE v.kb_id = kb.id GROUP BY term
             EXCEPT SELECT term, document_frequency FROM kb_terms t WHERE t.kb_id = kb.id)) AS x) AS wrong_terms,
         (SELECT count(*)::int FROM documents d WHERE d.kb_id = kb.id AND d.indexed_version > 0
            AND NOT EXISTS (SELECT FROM document_versions v WHERE v.document_id = d.id AND v.version = d.indexed_version)) AS lost_originals,
         (SELECT count(*)::int FROM documents d WHERE d.kb_id = kb.id
            AND (d.indexed_version > 0) <> EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id)) AS half_searchable,
         kb.entity_count, (SELECT count(*)::int FROM graph_entities e WHERE e.kb_id = kb.id) AS entities_counted,
         kb.relation_count, (SELECT count(*)::int FROM graph_relations r WHERE r.kb_id = kb.id) AS relations_counted,
         (SELECT count(*)::int FROM graph_entities e WHERE e.kb_id = kb.id
            AND NOT EXISTS (SELECT FROM graph_entity_mentions m WHERE m.entity_id = e.id)) AS unmentioned_entities,
         (SELECT count(*)::int FROM graph_relations r WHERE r.kb_id = kb.id
            AND NOT EXISTS (SELECT FROM graph_relation_mentions m WHERE m.relation_id = r.id)) AS unmentioned_relations,
         (SELECT count(*)::int FROM graph_entities e WHERE e.kb_id = kb.id AND e.open <>
            EXISTS (SELECT FROM graph_entity_mentions m WHERE m.entity_id = e.id AND NOT m.restricted)) AS wrongly_open,
         (SELECT count(*)::int FROM graph_entities e WHERE e.kb_id = kb.id AND e.embedding IS NULL) AS entities_without_vector,
         (SELECT count(*)::int FROM ingestions i JOIN documents d ON d.id = i.document_id
          WHERE i.kb_id = kb.id AND d.status IN ('ready', 'cancelled')) AS left_staged
  FROM knowledge_bases kb WHERE kb.id = $1`;

/**
 * Asserts that what is kept of a knowledge base is what a count gives, that nothing in it is half there, and that exactly
 * its originals are stored. To be called while nothing happens in it.
 */
export async function expectConsistent(
  app: TestApplication,
  kb: { id: string; kbId: string },
): Promise<void> {
  const [row] = await sql(app, KEPT_AND_COUNTED, [kb.kbId]);
  expect(row).toEqual({
    ...row,
    document_count: row.documents_counted,
    storage_bytes: row.bytes_counted,
    chunk_count: row.chunks_counted,
    vectors_counted: row.chunks_counted,
    chunks_of_documents: row.chunks_counted,
    lexeme_count: row.lexemes_counted,
    wrong_terms: 0,
    lost_originals: 0,
    half_searchable: 0,
    entity_count: row.entities_counted,
    relation_count: row.relations_counted,
    unmentioned_entities: 0,
    unmentioned_relations: 0,
    wrongly_open: 0,
    entities_without_vector: 0,
    left_staged: 0,
  });
  const keys = await sql<{ storage_key: string }>(
    app,
    'SELECT storage_key FROM document_versions WHERE kb_id = $1',
    [kb.kbId],
  );
  const stored: string[] = [];
  const storage = app.application.nest.get(FileStorage, { strict: false });
  for await (const file of storage.list(`${kb.id}/${kb.kbId}`)) stored.push(file.key);
  expect(stored.toSorted()).toEqual(keys.map(({ storage_key }) => storage_key).toSorted());
}
