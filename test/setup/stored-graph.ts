import { v7 as uuidv7 } from 'uuid';
import type { Extraction } from '../../src/features/graph/extraction.js';
import { halfvecLiteral } from '../../src/features/documents/halfvec.js';
import type { Tx } from '../../src/foundation/database/transaction.js';

/** The graph by itself: its tables without tenants and policies, which other tests are about. */
export const GRAPH_TABLES = `
CREATE TABLE graph_entities (id uuid PRIMARY KEY, kb_id uuid NOT NULL, key text NOT NULL, embedding halfvec,
  UNIQUE (kb_id, key));
CREATE TABLE graph_entity_mentions (entity_id uuid NOT NULL, chunk_id uuid NOT NULL, kb_id uuid NOT NULL,
  document_id uuid NOT NULL, name text NOT NULL, type text NOT NULL, description text,
  PRIMARY KEY (entity_id, chunk_id));
CREATE INDEX ON graph_entity_mentions (chunk_id);
CREATE TABLE graph_relations (id uuid PRIMARY KEY, kb_id uuid NOT NULL, source_id uuid NOT NULL, target_id uuid NOT NULL,
  type text NOT NULL, UNIQUE (source_id, target_id, type));
CREATE INDEX ON graph_relations (target_id);
CREATE TABLE graph_relation_mentions (relation_id uuid NOT NULL, chunk_id uuid NOT NULL, kb_id uuid NOT NULL,
  document_id uuid NOT NULL, weight real NOT NULL, description text, PRIMARY KEY (relation_id, chunk_id));
CREATE INDEX ON graph_relation_mentions (chunk_id);`;

/**
 * Puts what was extracted of each chunk of a document into the graph of its knowledge base.
 *
 * @param extractions in the order of the chunks
 * @param vectorOf of a name; without it entities are found by their words alone
 */
export async function storeGraph(
  tx: Tx,
  { kbId, documentId }: { kbId: string; documentId: string },
  extractions: readonly Extraction[],
  vectorOf?: (name: string) => readonly number[] | undefined,
): Promise<void> {
  const chunks: Array<{ id: string }> = await tx.query(
    'SELECT id FROM chunks WHERE document_id = $1 ORDER BY ordinal',
    [documentId],
  );
  for (const [ordinal, { entities, relations }] of extractions.entries()) {
    const chunkId = chunks[ordinal]?.id;
    const ids = new Map<string, string>();
    for (const { key, name, type, description } of entities) {
      const vector = vectorOf?.(name);
      const [{ id }]: [{ id: string }] = await tx.query(
        `INSERT INTO graph_entities (id, kb_id, key, embedding) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kb_id, key) DO UPDATE SET key = excluded.key RETURNING id`,
        [uuidv7(), kbId, key, vector ? halfvecLiteral(vector) : null],
      );
      ids.set(key, id);
      await tx.query('INSERT INTO graph_entity_mentions VALUES ($1, $2, $3, $4, $5, $6, $7)', [
        id,
        chunkId,
        kbId,
        documentId,
        name,
        type,
        description,
      ]);
    }
    for (const { source, target, type, description, weight } of relations) {
      const [{ id }]: [{ id: string }] = await tx.query(
        `INSERT INTO graph_relations VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (source_id, target_id, type) DO UPDATE SET type = excluded.type RETURNING id`,
        [uuidv7(), kbId, ids.get(source), ids.get(target), type],
      );
      await tx.query('INSERT INTO graph_relation_mentions VALUES ($1, $2, $3, $4, $5, $6)', [
        id,
        chunkId,
        kbId,
        documentId,
        weight,
        description,
      ]);
    }
  }
}
