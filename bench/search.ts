/**
 * Search through the whole stack (token, tenant, permission, validation, BM25 and vectors under row-level security)
 * against the bare endpoint of `bare-endpoint.ts`: same rows, same questions, same embedding server, in turns.
 *
 *   npm run bench -- search [--seconds 8] [--clients 1,16] [--chunks 2000] [--tenants 5] [--cpu-prof <folder>]
 *   npm run bench -- search --chunks 50000 --tenants 25
 *
 * A large knowledge base has its index built first, the bare endpoint an HNSW index, too; how many of the ten best
 * passages are those of an exact scan is said then.
 *
 * Runs on a database of its own on the server of DATABASE_ADMIN_URL; without one our side runs embedded, and alone.
 */
import autocannon from 'autocannon';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { v7 as uuidv7 } from 'uuid';
import { OpenAIEmbedding } from '../src/core/models/openai-embedding.js';
import type { DataSource } from 'typeorm';
import { parseEnv } from '../src/foundation/config/env.js';
import { updateLargeIndex } from '../test/setup/large-index.js';
import { storeChunks } from '../test/setup/stored-chunks.js';
import { Client } from '../test/setup/client.js';
import { type ServerProcess, startServer } from './child-process.js';
import { ADMIN, type Installation, createInstallation, withClient } from './installation.js';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '8' },
    clients: { type: 'string', default: '1,16' },
    chunks: { type: 'string', default: '2000' },
    tenants: { type: 'string', default: '5' },
    'cpu-prof': { type: 'string' },
  },
});
/** A measurement is this many turns; between them the other sides have theirs, so that drift of the machine hits all. */
const TURNS = 2;
/** Until the code is compiled by V8 and the statements are planned by PostgreSQL, on every connection. */
const WARM_UP = { clients: 16, requests: 2_000 };
const OTHER_TENANTS = { count: Number(options.tenants) - 1, chunks: 500 };
const CHUNKS_PER_DOCUMENT = 20;
const RECALL_QUESTIONS = 200;
const SENTENCES_PER_CHUNK = 8;
const POOL_SIZE = '10';

interface Side {
  name: string;
  process: ServerProcess;
  request: { path: string; headers: Record<string, string> };
}

interface Measured {
  seconds: number;
  /** Milliseconds, of every request. */
  latencies: number[];
  /** Milliseconds of CPU time. */
  cpu: number;
  databaseCpu: number | null;
}

const sentences = readSentences(join(import.meta.dirname, '../scripts/demo/corpus'));
const installation = await createInstallation(process.env['DATABASE_ADMIN_URL']);
const largeFrom = parseEnv(installation.settings).largeKbChunks;
const large = Number(options.chunks) >= largeFrom;
const running: ServerProcess[] = [];
const start = async (...parameters: Parameters<typeof startServer>) => {
  const server = await startServer(...parameters);
  running.push(server);
  return server;
};
try {
  const model = await start('bench/model-endpoint.ts', {});
  const embeddingUrl = `${model.url}/v1`;
  const kb = await fill(installation, embeddingUrl);
  const sides = await startSides(kb, embeddingUrl);
  for (const side of sides) await load(side, WARM_UP.clients, { amount: WARM_UP.requests });
  if (large) await reportRecall(sides.find(side => side.name === 'enclave') ?? (sides[0] as Side));
  for (const clients of options.clients.split(',').map(Number))
    report(clients, await measure(sides, clients));
} finally {
  for (const server of running.toReversed()) await server.stop();
  await installation.remove();
}

async function startSides(kb: { tenantId: string; kbId: string }, embeddingUrl: string): Promise<Side[]> {
  const { settings, adminUrl } = installation;
  const ours = {
    ...settings,
    DATABASE_POOL_SIZE: POOL_SIZE,
    EMBEDDING_BASE_URL: embeddingUrl,
    EMBEDDING_MODEL: 'stub',
    ACCESS_TOKEN_TTL_SECONDS: '3600',
  };
  const profile = options['cpu-prof'] ? ['--cpu-prof', `--cpu-prof-dir=${options['cpu-prof']}`] : [];
  const quiet = await start('dist/src/main.js', ours, { execArgv: profile });
  const token = await signUpMember(quiet.url, kb.tenantId);
  const request = {
    path: `/api/v1/tenants/${kb.tenantId}/kbs/${kb.kbId}/search`,
    headers: { authorization: `Bearer ${token}` },
  };
  if (!adminUrl) {
    console.log(
      'DATABASE_ADMIN_URL is not set: our side runs on the embedded database, whose one session the bare',
    );
    console.log('endpoint cannot share, so there is nothing to compare it with.\n');
    return [{ name: 'enclave, embedded', process: quiet, request }];
  }
  const logging = await start('dist/src/main.js', { ...ours, LOG_LEVEL: 'info' });
  const bare = await start('bench/bare-endpoint.ts', {
    DATABASE_URL: settings['DATABASE_URL'] as string,
    EMBEDDING_URL: embeddingUrl,
    TENANT_ID: kb.tenantId,
    KB_ID: kb.kbId,
    POOL_SIZE,
    ...(large && { VECTORS: 'bare_vectors' }),
  });
  return [
    { name: 'bare Fastify + pg + RLS', process: bare, request: { path: '/search', headers: {} } },
    { name: 'enclave', process: quiet, request },
    { name: 'enclave, a log line a request', process: logging, request },
  ];
}

/** Somebody who may ask and nothing else, as most who ask. */
async function signUpMember(url: string, tenantId: string): Promise<string> {
  const anonymous = new Client(url);
  const admin = anonymous.withToken((await anonymous.post('/auth/login', ADMIN)).body.access_token);
  const user = (
    await anonymous.post('/auth/register', {
      email: 'asker@enclave.bench',
      password: 'somebody who asks',
      display_name: 'Asker',
    })
  ).body;
  const added = await admin.post(`/tenants/${tenantId}/members`, { user_id: user.user.id, role: 'viewer' });
  if (added.status !== 201) throw new Error(`The member was not added: ${JSON.stringify(added.body)}`);
  return user.access_token;
}

/** Migrates and fills the database: one knowledge base to search, others of other tenants beside it. */
async function fill(target: Installation, embeddingUrl: string): Promise<{ tenantId: string; kbId: string }> {
  await target.migrate();
  const access = await target.open();
  const dataSource = access.administration();
  await dataSource.initialize();
  const model = new OpenAIEmbedding({ baseUrl: embeddingUrl, apiKey: '', model: 'stub' }, { batchSize: 100 });

  const addTenant = async (name: string, count: number) => {
    const [tenantId, kbId] = [uuidv7(), uuidv7()];
    await dataSource.query(
      `INSERT INTO tenants (id, name, display_name, plan_tier) VALUES ($1, $2, $2, 'enterprise')`,
      [tenantId, name],
    );
    await dataSource.query(
      `INSERT INTO knowledge_bases (id, tenant_id, name, slug, embedding_model) VALUES ($1, $2, 'Docs', 'docs', 'stub')`,
      [kbId, tenantId],
    );
    for (let first = 0; first < count; first += CHUNKS_PER_DOCUMENT) {
      const texts = Array.from({ length: Math.min(CHUNKS_PER_DOCUMENT, count - first) }, randomText);
      const vectors = await model.embedDocuments(texts);
      const documentId = uuidv7();
      await dataSource.transaction(async tx => {
        await tx.query(
          `INSERT INTO documents (id, tenant_id, kb_id, title, source, mime_type, size_bytes, content_sha256, status)
           VALUES ($1, $2, $3, $4, 'text', 'text/plain', 1, gen_random_uuid(), 'ready')`,
          [documentId, tenantId, kbId, `Document ${first / CHUNKS_PER_DOCUMENT + 1}`],
        );
        await storeChunks(
          tx,
          { documentId, tenantId, kbId },
          texts.map((text, ordinal) => ({
            ordinal,
            text,
            heading: null,
            page: null,
            startOffset: 0,
            endOffset: text.length,
            tokenCount: Math.ceil(text.length / 4),
            embedding: vectors[ordinal] as number[],
          })),
        );
      });
    }
    return { tenantId, kbId };
  };
  for (let i = 1; i <= OTHER_TENANTS.count; i++) await addTenant(`other-${i}`, OTHER_TENANTS.chunks);
  const kb = await addTenant('searched', Number(options.chunks));
  if (large) await index(dataSource, kb.kbId);
  await dataSource.query('VACUUM ANALYZE');
  await dataSource.destroy();
  await access.close();
  return kb;
}

/** Ours, and the bare endpoint's: all tenants in one table, as simple as row-level security lets it be. */
async function index(dataSource: DataSource, kbId: string): Promise<void> {
  const started = performance.now();
  await updateLargeIndex(work => dataSource.transaction(work), kbId, { from: largeFrom, gradually: false });
  console.log(
    `Index of ${options.chunks} chunks built in ${((performance.now() - started) / 1000).toFixed(0)} s\n`,
  );
  await dataSource.query(`
    CREATE TABLE bare_vectors AS
      SELECT chunk_id, tenant_id, kb_id, document_id, embedding::halfvec(256) AS embedding FROM chunk_vectors;
    CREATE INDEX ON bare_vectors USING hnsw (embedding halfvec_ip_ops);
    ALTER TABLE bare_vectors ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant_isolation ON bare_vectors FOR ALL TO enclave_tenant
      USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid))
      WITH CHECK (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
    GRANT SELECT ON bare_vectors TO enclave_tenant`);
}

/** Against the same question with a filter that lets everything through: such a search reads all chunks. */
async function reportRecall({ process: server, request }: Side): Promise<void> {
  const ask = async (query: string, mode: string, filter?: object): Promise<string[]> => {
    const response = await fetch(server.url + request.path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...request.headers },
      body: JSON.stringify({ query, mode, top_k: 10, include_text: false, filter }),
    });
    const { passages } = (await response.json()) as { passages: Array<{ chunk_id: string }> };
    return passages.map(passage => passage.chunk_id);
  };
  const rows: Record<string, object> = {};
  for (const mode of ['hybrid', 'vector', 'keyword']) {
    const recalls: number[] = [];
    for (let i = 0; i < RECALL_QUESTIONS; i++) {
      const query = randomQuestion();
      const exact = await ask(query, mode, { metadata: {} });
      const found = new Set(await ask(query, mode));
      if (exact.length > 0) recalls.push(exact.filter(id => found.has(id)).length / exact.length);
    }
    const mean = recalls.reduce((sum, recall) => sum + recall, 0) / recalls.length;
    rows[mode] = {
      'recall@10': mean.toFixed(3),
      least: Math.min(...recalls).toFixed(2),
      questions: recalls.length,
    };
  }
  console.table(rows);
}

async function measure(sides: Side[], clients: number): Promise<Map<Side, Measured>> {
  const results = new Map(
    sides.map(side => [
      side,
      { seconds: 0, latencies: [] as number[], cpu: 0, databaseCpu: 0 as number | null },
    ]),
  );
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [side, result] of results) {
      const before = [(await side.process.usage()).cpu, await databaseCpu()] as const;
      const { seconds, latencies } = await load(side, clients, { duration: Number(options.seconds) / TURNS });
      const after = [(await side.process.usage()).cpu, await databaseCpu()] as const;
      result.seconds += seconds;
      result.latencies.push(...latencies);
      result.cpu += after[0] - before[0];
      result.databaseCpu =
        result.databaseCpu !== null && before[1] && after[1]
          ? result.databaseCpu + spent(before[1], after[1])
          : null;
    }
  }
  return results;
}

async function load(
  { name, process: server, request }: Side,
  clients: number,
  extent: { amount: number } | { duration: number },
): Promise<{ seconds: number; latencies: number[] }> {
  const latencies: number[] = [];
  const statuses = new Map<number, number>();
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const run = autocannon(
      {
        url: server.url,
        connections: clients,
        ...extent,
        requests: [
          {
            method: 'POST',
            path: request.path,
            headers: { 'content-type': 'application/json', ...request.headers },
            setupRequest: template => ({ ...template, body: JSON.stringify({ query: randomQuestion() }) }),
          },
        ],
      },
      (error, finished) => (error ? reject(error as Error) : resolve(finished)),
    );
    run.on('response', (_client, status, _bytes, latency) => {
      latencies.push(latency);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    });
  });
  if (result.errors > 0 || statuses.size !== 1 || !statuses.has(200)) {
    throw new Error(`${name}: ${result.errors} errors, answers by status ${JSON.stringify([...statuses])}`);
  }
  return { seconds: result.duration, latencies };
}

function report(clients: number, results: Map<Side, Measured>): void {
  console.log(`${clients} client${clients === 1 ? '' : 's'}, ${options.chunks} chunks of 256 dimensions`);
  const rate = ({ latencies, seconds }: Measured) => latencies.length / seconds;
  const [baseline] = results.values();
  const rows = [...results].map(([side, result]) => {
    const requests = result.latencies.length;
    const sorted = result.latencies.toSorted((a, b) => a - b);
    const percentile = (share: number) =>
      sorted[Math.min(requests - 1, Math.floor(requests * share))]?.toFixed(2);
    return [
      side.name,
      {
        'requests/s': Math.round(rate(result)),
        ratio: results.size > 1 ? (rate(result) / rate(baseline as Measured)).toFixed(2) : '-',
        'p50 ms': percentile(0.5),
        'p95 ms': percentile(0.95),
        'p99 ms': percentile(0.99),
        'CPU ms/request': (result.cpu / requests).toFixed(2),
        'PostgreSQL CPU ms/request':
          result.databaseCpu === null ? '-' : (result.databaseCpu / requests).toFixed(2),
      },
    ];
  });
  console.table(Object.fromEntries(rows));
}

/** CPU time of each session on our database, in milliseconds; null where the server is not a Linux process beside us. */
async function databaseCpu(): Promise<Map<number, number> | null> {
  if (!installation.adminUrl) return null;
  const pids = await withClient(installation.adminUrl, async client => {
    const { rows } = await client.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
    );
    return rows.map(row => row.pid);
  });
  try {
    return new Map(pids.map(pid => [pid, backendCpu(pid)]));
  } catch {
    return null;
  }
}

/** Sessions that ended meanwhile were idle: those under load stay. */
function spent(before: Map<number, number>, after: Map<number, number>): number {
  return [...after].reduce((sum, [pid, cpu]) => sum + cpu - (before.get(pid) ?? 0), 0);
}

/** proc(5): utime and stime are fields 14 and 15, in ticks of 10 ms. */
function backendCpu(pid: number): number {
  const [, name, rest] = /^\d+ \((.*)\) (.*)$/s.exec(
    readFileSync(`/proc/${pid}/stat`, 'utf8'),
  ) as unknown as [string, string, string];
  if (!name.startsWith('postgres')) throw new Error('The server runs elsewhere: this is some other process.');
  const fields = rest.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function readSentences(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(path => /\.(md|txt)$/.test(path))
    .flatMap(path => readFileSync(join(folder, path), 'utf8').match(/[A-Z][^.!?#|\n]{30,}[.!?]/g) ?? []);
}

function randomItem<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)] as T;
}

function randomText(): string {
  return Array.from({ length: SENTENCES_PER_CHUNK }, () => randomItem(sentences)).join(' ');
}

/** 5 to 12 words, as people ask. */
function randomQuestion(): string {
  const words = `${randomItem(sentences)} ${randomItem(sentences)}`.split(' ');
  const length = 5 + Math.floor(Math.random() * 8);
  const first = Math.floor(Math.random() * (words.length - length));
  return words.slice(first, first + length).join(' ');
}
