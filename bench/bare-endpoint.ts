/**
 * The least that can answer a search and keep tenants apart: Fastify, pg and row-level security. No accounts, no
 * permissions, no keyword search: what is fast here is the limit for the whole stack. Where the knowledge base is large,
 * it has a table of vectors with an HNSW index, for all tenants.
 */
import Fastify from 'fastify';
import pg from 'pg';

const { DATABASE_URL, EMBEDDING_URL, TENANT_ID, KB_ID, POOL_SIZE, VECTORS = 'chunk_vectors' } = process.env;
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: Number(POOL_SIZE) });

/** Everything before the query in one message: the simple protocol takes several statements, but no parameters. */
const ENTER = `BEGIN; SET LOCAL ROLE enclave_tenant; SET LOCAL app.tenant_id = ${pg.escapeLiteral(TENANT_ID as string)}`;
const SEARCH = `
  WITH nearest AS MATERIALIZED (
    SELECT chunk_id, -(embedding <#> $2::halfvec) AS score FROM ${VECTORS}
    WHERE kb_id = $1 ORDER BY embedding <#> $2::halfvec LIMIT 10
  )
  SELECT chunk_id, document_id, title, text, score FROM nearest
  JOIN chunks ON chunks.id = chunk_id JOIN documents ON documents.id = document_id ORDER BY score DESC`;

async function embed(input: string): Promise<string> {
  const response = await fetch(`${EMBEDDING_URL}/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input, model: 'stub' }),
  });
  const { data } = (await response.json()) as { data: [{ embedding: number[] }] };
  return JSON.stringify(data[0].embedding);
}

async function search(vector: string): Promise<unknown[]> {
  const client = await pool.connect();
  try {
    await client.query(ENTER);
    const { rows } = await client.query({ name: 'search', text: SEARCH, values: [KB_ID, vector] });
    await client.query('COMMIT');
    client.release();
    return rows;
  } catch (error) {
    client.release(true);
    throw error;
  }
}

const fastify = Fastify();
fastify.post('/search', async request => {
  const { query } = request.body as { query: string };
  return { passages: await search(await embed(query)) };
});
console.log(await fastify.listen({ host: '127.0.0.1', port: 0 }));
