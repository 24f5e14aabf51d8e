import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

/** Asks the database as somebody whom no policy holds. */
export type Query = (sql: string, parameters?: unknown[]) => Promise<Array<Record<string, any>>>;

export interface Found {
  /** What there should be none of. */
  what: string;
  count: number;
  examples: unknown[];
  /** Whether it is no fault, and worth knowing all the same. */
  tolerated: boolean;
}

interface Outside {
  /** SHA-256 of every document that there should be, hexadecimal. */
  contents: ReadonlySet<string>;
  /** Keys of the files that are stored. */
  stored: readonly string[];
}

type Look = (query: Query, outside: Outside) => Promise<unknown[]>;

const rows =
  (sql: string): Look =>
  query =>
    query(sql);

const REMAINS: ReadonlyArray<{ what: string; tolerated?: boolean; look: Look }> = [
  {
    what: 'documents that are neither ready nor failed',
    look: rows(`SELECT id FROM documents WHERE status NOT IN ('ready', 'failed')`),
  },
  {
    what: 'failed documents without a reason',
    look: rows(
      `SELECT id FROM documents WHERE status = 'failed' AND (error_code IS NULL OR error_message IS NULL)`,
    ),
  },
  {
    what: 'failed for another reason than their content',
    tolerated: true,
    look: rows(`SELECT id FROM documents WHERE status = 'failed' AND error_code <> 'damaged'`),
  },
  {
    what: 'documents that are missing, and such as should not be there',
    look: async (query, { contents }) => {
      const found = await query('SELECT content_sha256 AS sha256 FROM documents');
      const there = new Set(found.map(({ sha256 }) => sha256 as string));
      const unexpected = found.filter(({ sha256 }) => !contents.has(sha256 as string));
      return [...unexpected, ...[...contents].filter(sha256 => !there.has(sha256))];
    },
  },
  {
    what: 'documents that are there twice',
    look: rows('SELECT content_sha256 FROM documents GROUP BY kb_id, content_sha256 HAVING count(*) > 1'),
  },
  {
    what: 'ready documents whose newest version is not the searchable one',
    look: rows(`SELECT id FROM documents WHERE status = 'ready' AND indexed_version <> version`),
  },
  {
    what: 'documents whose number of chunks is wrong',
    look: rows(
      `SELECT d.id FROM documents d LEFT JOIN chunks c ON c.document_id = d.id
       GROUP BY d.id HAVING d.chunk_count <> count(c.id)`,
    ),
  },
  {
    what: 'ready documents without chunks',
    look: rows(`SELECT id FROM documents WHERE status = 'ready' AND chunk_count = 0`),
  },
  {
    what: 'documents whose chunks are not numbered from 0 on',
    look: rows(
      'SELECT document_id FROM chunks GROUP BY document_id HAVING min(ordinal) <> 0 OR max(ordinal) <> count(*) - 1',
    ),
  },
  {
    what: 'chunks of no document',
    look: rows(
      'SELECT id FROM chunks c WHERE NOT EXISTS (SELECT 1 FROM documents d WHERE d.id = c.document_id)',
    ),
  },
  {
    what: 'chunks without a vector, and vectors without a chunk',
    look: rows(
      'SELECT 1 FROM chunks c FULL JOIN chunk_vectors v ON v.chunk_id = c.id WHERE c.id IS NULL OR v.chunk_id IS NULL',
    ),
  },
  {
    what: 'knowledge bases whose statistics are not what a count gives',
    look: rows(
      `SELECT kb.id FROM knowledge_bases kb
       CROSS JOIN LATERAL (SELECT count(*) AS documents, coalesce(sum(size_bytes), 0) AS bytes FROM documents
                           WHERE kb_id = kb.id) AS d
       CROSS JOIN LATERAL (SELECT count(*) AS chunks, coalesce(sum(length), 0) AS lexemes FROM chunk_vectors
                           WHERE kb_id = kb.id) AS v
       WHERE (kb.document_count, kb.storage_bytes, kb.chunk_count, kb.lexeme_count)
             IS DISTINCT FROM (d.documents, d.bytes, v.chunks, v.lexemes)`,
    ),
  },
  {
    what: 'terms whose document frequency is not what a count gives',
    look: rows(
      `SELECT 1 FROM
         (SELECT v.kb_id, term, count(*) AS frequency
          FROM chunk_vectors v CROSS JOIN LATERAL sparsevec_indices(v.lexical) AS term GROUP BY v.kb_id, term) AS counted
       FULL JOIN (SELECT * FROM kb_terms WHERE document_frequency > 0) AS kept USING (kb_id, term)
       WHERE kept.document_frequency IS DISTINCT FROM counted.frequency`,
    ),
  },
  {
    what: 'tenants whose counters are not what a count gives',
    look: rows(
      `SELECT c.tenant_id FROM tenant_counters c
       CROSS JOIN LATERAL (SELECT count(*) AS documents, coalesce(sum(size_bytes), 0) AS bytes FROM documents d
                           WHERE d.tenant_id = c.tenant_id) AS d
       WHERE (c.documents, c.storage_bytes) IS DISTINCT FROM (d.documents, d.bytes)`,
    ),
  },
  {
    what: 'what is staged for documents that are ready, or gone',
    look: rows(
      `SELECT 1 FROM (SELECT document_id FROM ingestions UNION ALL SELECT document_id FROM staged_chunks
                      UNION ALL SELECT document_id FROM staged_vectors
                      UNION ALL SELECT document_id FROM staged_extractions
                      UNION ALL SELECT document_id FROM staged_entities) AS staged
       LEFT JOIN documents d ON d.id = staged.document_id WHERE d.id IS NULL OR d.status = 'ready'`,
    ),
  },
  {
    what: 'ready documents with another number of originals than one',
    look: rows(
      `SELECT d.id FROM documents d LEFT JOIN document_versions v ON v.document_id = d.id
       WHERE d.status = 'ready' GROUP BY d.id HAVING count(v.version) <> 1`,
    ),
  },
  {
    what: 'originals that are not stored',
    look: async (query, { stored }) => {
      const keys = await query('SELECT storage_key AS key FROM document_versions');
      return keys.filter(({ key }) => !stored.includes(key as string));
    },
  },
  {
    what: 'stored files of nobody, after the sweep',
    look: async (query, { stored }) => {
      const keys = await query('SELECT storage_key AS key FROM document_versions');
      const known = new Set(keys.map(({ key }) => key as string));
      return stored.filter(key => !known.has(key));
    },
  },
];

/** Keys of the files that an installation stores in its data folder. */
export function storedKeys(dataDir: string): string[] {
  const folder = join(dataDir, 'files');
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && entry.name !== '.installation')
    .map(entry => relative(folder, join(entry.parentPath, entry.name)));
}

/**
 * Looks for what ingestions have left behind that were killed, or cut off from what they need, and that is to be nowhere
 * once everything has settled and the storage was swept.
 */
export async function findRemains(query: Query, outside: Outside): Promise<Found[]> {
  const found: Found[] = [];
  for (const { what, tolerated = false, look } of REMAINS) {
    const there = await look(query, outside);
    found.push({ what, tolerated, count: there.length, examples: there.slice(0, 5) });
  }
  return found;
}
