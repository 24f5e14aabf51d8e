import { PLATFORM_ROLE, TENANT_ROLE } from '../../src/foundation/database/roles.js';
import type { Fault } from './fault.js';

const CHECK = 'test/isolation/catalogue-check.spec.ts#the check at the start';
const ACCESS = 'test/isolation/catalogue-access.spec.ts';
const MADE_UP = 'test/isolation/made-up-rows.spec.ts';
const TABLES = `${ACCESS}#every table with a tenant`;
const SURFACES = 'test/isolation/surfaces.spec.ts';
const DOCUMENTS = 'test/e2e/document-access.spec.ts#the database itself';

/** Row-level security, and who may do what at all. */
export const DATABASE_FAULTS: readonly Fault[] = [
  {
    name: 'policy-shows-all',
    breaks: 'A tenant reads the documents of all tenants.',
    sql: 'ALTER POLICY tenant_isolation ON documents USING (true)',
    specs: [TABLES],
  },
  {
    name: 'policy-shows-all-on-chunks',
    breaks: 'A tenant that sees all of its own reads the chunks of all tenants.',
    sql: 'ALTER POLICY tenant_isolation ON chunks USING (true)',
    specs: [TABLES],
  },
  {
    name: 'policy-beside-the-policy',
    breaks: 'A second policy opens what the first one closes: webhooks.',
    sql: `CREATE POLICY for_support ON webhooks FOR SELECT TO ${TENANT_ROLE} USING (true)`,
    specs: [TABLES],
  },
  {
    name: 'row-security-off',
    breaks: 'The API tokens of all tenants are read by each.',
    sql: 'ALTER TABLE api_tokens DISABLE ROW LEVEL SECURITY',
    specs: [TABLES],
  },
  {
    name: 'row-security-not-forced',
    breaks: 'Whoever owns the table of chunks reads all of it.',
    sql: 'ALTER TABLE chunks NO FORCE ROW LEVEL SECURITY',
    specs: [CHECK],
  },
  {
    name: 'tenants-own-a-table',
    breaks: 'The role of tenants owns the table of knowledge bases, which is then not kept from it.',
    sql: `ALTER TABLE knowledge_bases OWNER TO ${TENANT_ROLE}; ALTER TABLE knowledge_bases NO FORCE ROW LEVEL SECURITY`,
    specs: [TABLES],
  },
  {
    name: 'with-check-gone',
    breaks: 'A tenant writes rows that are another tenant’s: webhooks.',
    sql: 'ALTER POLICY tenant_isolation ON webhooks WITH CHECK (true)',
    specs: [TABLES],
  },
  {
    name: 'with-check-gone-on-documents',
    breaks: 'A tenant that sees all of its own writes documents that are another tenant’s.',
    sql: 'ALTER POLICY tenant_isolation ON documents WITH CHECK (true)',
    specs: [TABLES],
  },
  {
    name: 'view-past-the-policies',
    breaks: 'A view shows the titles of all tenants, with the eyes of whoever has made it.',
    sql: `CREATE VIEW document_titles AS SELECT title FROM documents; GRANT SELECT ON document_titles TO ${TENANT_ROLE}`,
    specs: [CHECK],
  },
  {
    name: 'bypassrls-behind-missing-wheres',
    breaks: 'The role of tenants is held by no policy, and no query says WHERE tenant_id.',
    sql: `ALTER ROLE ${TENANT_ROLE} BYPASSRLS`,
    specs: [TABLES],
    embeddedOnly: true,
  },
  {
    name: 'context-of-nobody-shows-all',
    breaks: 'Where no tenant is set, the alerts of all are shown.',
    sql: `ALTER POLICY tenant_isolation ON alerts USING (
      tenant_id = coalesce((SELECT nullif(current_setting('app.tenant_id', true), '')::uuid), tenant_id))`,
    specs: [TABLES],
  },
  {
    name: 'grants-do-not-narrow',
    breaks: 'Members find what stands in knowledge bases that are not granted to them.',
    sql: 'DROP POLICY granted_access ON knowledge_bases',
    specs: [DOCUMENTS, SURFACES],
  },
  {
    name: 'readers-do-not-narrow',
    breaks: 'Members find the chunks of documents that they may not read.',
    sql: 'DROP POLICY granted_access ON chunk_vectors; DROP POLICY granted_access ON chunks',
    specs: [DOCUMENTS, SURFACES],
  },
  {
    name: 'tokens-not-kept-to-kbs',
    breaks: 'An API token for one knowledge base reads the documents of the others.',
    sql: 'DROP POLICY token_kbs ON documents',
    specs: ['test/e2e/api-token-kbs.spec.ts#the database', 'test/e2e/api-token-kbs.spec.ts'],
  },
  {
    name: 'chats-of-others',
    breaks: 'Members read and change the chats of others.',
    sql: 'DROP POLICY own_chats ON chat_sessions; DROP POLICY own_chats ON chat_messages',
    specs: ['test/e2e/chat.spec.ts#one’s own chats', SURFACES, ACCESS],
  },
  {
    name: 'evaluations-of-others',
    breaks: 'What somebody’s evaluation has asked and found is shown to every member.',
    sql: 'DROP POLICY own_evaluations ON evaluation_results; DROP POLICY own_evaluations ON evaluation_questions',
    specs: ['test/e2e/evaluation.spec.ts#whoever starts an evaluation', ACCESS],
  },
  {
    name: 'remembered-answers-of-hidden-documents',
    breaks: 'An answer made from a document comes back to a member who may not read it.',
    sql: 'DROP POLICY granted_access ON answer_cache',
    specs: ['test/isolation/caches.spec.ts#a member who may not read a document'],
  },
  {
    name: 'graph-of-hidden-documents',
    breaks: 'What hidden documents mention is read in the graph.',
    sql: 'DROP POLICY granted_access ON graph_entities; DROP POLICY granted_access ON graph_entity_mentions',
    specs: ['test/e2e/graph.spec.ts#a graph of documents that not everybody may read', SURFACES],
  },
  {
    name: 'users-of-all-tenants',
    breaks: 'A tenant reads the e-mail addresses of people who are none of its members.',
    sql: 'ALTER POLICY tenant_members ON users USING (true)',
    specs: [ACCESS],
  },
  {
    name: 'reference-into-another-tenant',
    breaks:
      'A document is put into another tenant’s knowledge base: references are checked past the policies.',
    sql: `DO $$ DECLARE name text; BEGIN
      SELECT conname INTO name FROM pg_constraint
      WHERE conrelid = 'documents'::regclass AND confrelid = 'knowledge_bases'::regclass;
      EXECUTE format('ALTER TABLE documents DROP CONSTRAINT %I', name);
    END $$;
    ALTER TABLE documents ADD FOREIGN KEY (kb_id) REFERENCES knowledge_bases (id) ON DELETE CASCADE`,
    specs: [TABLES],
  },
  {
    name: 'platform-reads-texts',
    breaks: 'What works across tenants may read the texts of all of them.',
    sql: `GRANT SELECT ON chunks TO ${PLATFORM_ROLE};
      CREATE POLICY platform_access ON chunks FOR SELECT TO ${PLATFORM_ROLE} USING (true)`,
    specs: [`${ACCESS}#the role of the platform`],
  },
  {
    name: 'policy-that-holds-for-all',
    breaks: 'A policy names who may see a chunk, as it should, and then lets everybody.',
    sql: `DO $$ BEGIN EXECUTE (
        SELECT format('ALTER POLICY granted_access ON chunks USING ((%s) OR kb_id IS NOT NULL)', pg_get_expr(polqual, polrelid))
        FROM pg_policy WHERE polname = 'granted_access' AND polrelid = 'chunks'::regclass); END $$`,
    specs: [MADE_UP],
  },
  {
    name: 'chunks-not-flagged',
    breaks:
      'The chunks of a restricted document do not know that they are, and their policy shows them to all.',
    sql: 'DROP TRIGGER chunks_restriction ON chunks; DROP TRIGGER chunk_vectors_restriction ON chunk_vectors',
    specs: [DOCUMENTS, SURFACES, CHECK],
  },
  {
    name: 'audit-is-rewritten',
    breaks: 'A tenant changes what its audit says.',
    sql: `GRANT UPDATE, DELETE ON audit_entries TO ${TENANT_ROLE}`,
    specs: [TABLES],
  },
  {
    name: 'tenants-make-functions',
    breaks:
      'Whoever gets a statement into a tenant’s transaction makes functions that others’ policies call.',
    sql: `GRANT CREATE ON SCHEMA public TO ${TENANT_ROLE}`,
    specs: [
      'test/attacks/statements.spec.ts#a search path of somebody’s own',
      'test/attacks/statements.spec.ts',
    ],
  },
  {
    name: 'neighbours-fill-the-search',
    breaks: 'A search takes the nearest of all tenants first, and then what of them is one’s own.',
    sql: `CREATE FUNCTION nearest_of_all(question halfvec) RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER AS $$
        SELECT chunk_id FROM public.chunk_vectors
        WHERE public.vector_dims(embedding) = public.vector_dims(question)
        ORDER BY embedding OPERATOR(public.<#>) question LIMIT 40 $$`,
    edits: [
      {
        file: 'src/features/retrieval/search-statement.repository.ts',
        find: "  const condition = `${variant.index ? AMONG_CANDIDATES : ''}",
        replace:
          "  const near = `\\n      AND (${$('embedding')}::halfvec IS NULL OR chunk_id IN (SELECT nearest_of_all(${$('embedding')}::halfvec)))`;\n" +
          "  const condition = `${near}${variant.index ? AMONG_CANDIDATES : ''}",
      },
    ],
    specs: ['test/isolation/neighbours.spec.ts', 'test/isolation/nearest-neighbours.spec.ts'],
  },
  {
    name: 'large-index-without-policies',
    breaks: 'The vectors of a large knowledge base stand in a table that every tenant reads.',
    edits: [
      {
        file: 'migrations/large-index-functions.sql.ts',
        find: "    EXECUTE format('CREATE POLICY %I ON %I AS %s FOR ALL TO ${tenantRole} USING (%s) WITH CHECK (%s)',\n      policy.polname, name, CASE WHEN policy.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,\n      policy.condition, policy.added);",
        replace:
          "    EXECUTE format('CREATE POLICY %I ON %I AS %s FOR ALL TO ${tenantRole} USING (true) WITH CHECK (true)',\n      policy.polname, name, CASE WHEN policy.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END);",
      },
    ],
    specs: [
      `${ACCESS}#the table of vectors of a large knowledge base`,
      'test/isolation/nearest-neighbours.spec.ts',
    ],
  },
];
