/**
 * Ingestion: throughput by stage and the model's share of it, memory for large files, turns between tenants, and how fast a
 * large knowledge base still tells what it holds.
 *
 *   npm run bench -- ingest [--places bundled,embedded,server] [--parts throughput,large,fairness,statistics]
 *                           [--documents 60] [--pdf-mb 100] [--text-mb 250] [--flood 5000]
 *
 * - bundled: the embedded database and the bundled model, all in one process
 * - embedded: the embedded database, and a model server that answers at once
 * - server: DATABASE_ADMIN_URL and REDIS_URL; one process for the API, one worker, and that model server
 *
 * Everything runs on this machine, the database, the model server and this process included: with two cores they take from
 * each other.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { BundledEmbedding } from '../src/core/models/bundled-embedding.js';
import { OpenAIEmbedding } from '../src/core/models/openai-embedding.js';
import { type ServerProcess, startServer } from './child-process.js';
import { type Installation, createInstallation, withClient } from './installation.js';
import { megabytes, residentMemory, watchMemory } from './memory.js';
import { TenantClient, inParallel } from './tenant-client.js';
import { textOf, writePdf, writeText } from './texts.js';

const { values: options } = parseArgs({
  options: {
    places: { type: 'string', default: 'bundled,embedded,server' },
    parts: { type: 'string', default: 'throughput,large,fairness,statistics' },
    documents: { type: 'string', default: '60' },
    'pdf-mb': { type: 'string', default: '100' },
    'text-mb': { type: 'string', default: '250' },
    flood: { type: 'string', default: '5000' },
  },
});
const parts = new Set(options.parts.split(','));

/** Characters of a document: some forty chunks of the usual size. */
const DOCUMENT_LENGTH = 40_000;
/** The bundled model embeds some twenty chunks a second and core. */
const DOCUMENTS_OF_BUNDLED = 6;
const UPLOADS_AT_ONCE = 4;
/** Chunks that the model is given by itself. */
const SAMPLE = { bundled: 150, embedded: 1_000, server: 1_000 };
const SETTLE_MS = 3_000;
const LONGEST_MS = 10 * 60_000;
const LARGE_CHUNKS = { chunk_size: 8000, chunk_overlap: 0 };
const MOST_ABOVE_IDLE_MB = 300;
/** How often the second tenant adds its document. */
const TURNS = 10;
const STATISTICS = { chunks: 1_000_000, chunksADocument: 50, requests: 50 };

const redisUrl = process.env['REDIS_URL'];
const serverUrl = process.env['DATABASE_ADMIN_URL'];

/** An installation at work. */
interface Running {
  installation: Installation;
  /** Answers requests. */
  api: ServerProcess;
  /** Works on documents; the same where it is embedded. */
  worker: ServerProcess;
}

type Place = 'bundled' | 'embedded' | 'server';

const places = options.places.split(',').filter((place): place is Place => {
  if (place === 'server' && (!serverUrl || !redisUrl)) {
    console.log('Without DATABASE_ADMIN_URL and REDIS_URL there is no server to measure.\n');
    return false;
  }
  return ['bundled', 'embedded', 'server'].includes(place);
});
const model = await startServer('bench/model-endpoint.ts', {});
const folder = mkdtempSync(join(tmpdir(), 'enclave-bench-files-'));
try {
  if (parts.has('throughput')) await measureThroughput();
  if (parts.has('large')) await measureLargeFiles();
  if (parts.has('fairness')) for (const place of floodedPlaces()) await measureFairness(place);
  if (parts.has('statistics') && places.includes('server')) await measureStatistics();
} finally {
  rmSync(folder, { recursive: true, force: true });
  await model.stop();
}

async function inPlace<T>(place: Place, work: (running: Running) => Promise<T>): Promise<T> {
  const installation = await createInstallation(place === 'server' ? serverUrl : undefined);
  const settings: Record<string, string> = {
    ...installation.settings,
    LOG_LEVEL: 'info',
    LOG_FORMAT: 'json',
    MAX_UPLOAD_MB: '2000',
    REQUEST_TIMEOUT_SECONDS: '600',
    ACCESS_TOKEN_TTL_SECONDS: '3600',
    ...(place !== 'bundled' && { EMBEDDING_BASE_URL: `${model.url}/v1`, EMBEDDING_MODEL: 'stub' }),
    ...(place === 'server' && { REDIS_URL: redisUrl as string, WORKER: 'external' }),
  };
  const running: ServerProcess[] = [];
  try {
    const api = await startServer('dist/src/main.js', settings);
    running.push(api);
    const worker =
      place === 'server'
        ? await startServer('dist/src/worker.js', settings, { ready: /works on jobs/ })
        : api;
    if (worker !== api) running.push(worker);
    await sleep(SETTLE_MS);
    return await work({ installation, api, worker });
  } finally {
    for (const server of running.toReversed()) await server.stop();
    await installation.remove();
  }
}

async function measureThroughput(): Promise<void> {
  const rows: Record<string, Record<string, string | number>> = {};
  const stages: Record<string, Record<string, string>> = {};
  for (const place of places) {
    const count = place === 'bundled' ? DOCUMENTS_OF_BUNDLED : Number(options.documents);
    const texts = Array.from({ length: count }, (_, number) => textOf(`Document ${number}`, DOCUMENT_LENGTH));
    const measured = await inPlace(place, async running => {
      const { worker } = running;
      const idle = await residentMemory(worker);
      const tenant = await TenantClient.create(running.api.url, 'bench');
      // Until the code is compiled and the model is loaded.
      await tenant.addText(textOf('The first document', DOCUMENT_LENGTH / 10));
      const warm = await tenant.settled(LONGEST_MS);
      const before = (await worker.usage()).cpu;
      const watch = watchMemory(worker);
      const started = performance.now();
      await inParallel(count, UPLOADS_AT_ONCE, number => tenant.addText(texts[number] as string));
      const stats = await tenant.settled(LONGEST_MS);
      const elapsed = (performance.now() - started) / 1000;
      requireReady(stats.documents_by_status, count + 1);
      return {
        chunks: stats.chunk_count - warm.chunk_count,
        seconds: elapsed,
        idle,
        peak: await watch.peak(),
        cpu: (await worker.usage()).cpu - before,
        lines: ingestionsIn(worker.output()).slice(1),
        chunkTexts: await chunksOf(tenant, found => found.length >= SAMPLE[place]),
      };
    });
    const { chunks, seconds, cpu } = measured;
    const alone = await modelAlone(place, measured.chunkTexts, chunks);
    rows[place] = {
      documents: count,
      chunks,
      'chunks/s': (chunks / seconds).toFixed(0),
      'documents/s': (count / seconds).toFixed(1),
      'model alone, chunks/s': (chunks / alone.seconds).toFixed(0),
      "model's share": `${Math.round((100 * alone.seconds) / seconds)} %`,
      "model's share of CPU": alone.cpu === null ? '-' : `${Math.round((100 * alone.cpu) / cpu)} %`,
      'CPU ms/chunk': (cpu / chunks).toFixed(1),
      idle: megabytes(measured.idle),
      'peak above idle': megabytes(measured.peak - measured.idle),
    };
    stages[place] = Object.fromEntries(
      ['load', 'split', 'embed', 'store'].map(stage => [stage, perStage(measured.lines, stage, chunks)]),
    );
  }
  console.log(
    `Documents of ${DOCUMENT_LENGTH / 1000},000 characters, ${UPLOADS_AT_ONCE} uploads at a time; from the first upload on`,
  );
  console.table(rows);
  console.log('Each stage by itself, per document; what others of the same process do meanwhile is in it');
  console.table(stages);
  console.log(
    "Targets: 150 chunks/s on a server; a model's share above 80 % with the bundled one. The share is what the model alone\n" +
      'needs for the same chunks, of what everything took: of the time, which busy neighbours spoil, and of the CPU.\n',
  );
}

/** What the model needs for as many chunks by itself, worked out from some of them; CPU where it is in a process with us. */
async function modelAlone(
  place: Place,
  sample: string[],
  chunks: number,
): Promise<{ seconds: number; cpu: number | null }> {
  const embedding =
    place === 'bundled'
      ? new BundledEmbedding()
      : new OpenAIEmbedding({ baseUrl: `${model.url}/v1`, apiKey: '', model: 'stub' });
  try {
    await embedding.embedDocuments(sample.slice(0, 20));
    const started = { time: performance.now(), cpu: process.cpuUsage() };
    await embedding.embedDocuments(sample);
    const { user, system } = process.cpuUsage(started.cpu);
    const scale = chunks / sample.length;
    return {
      seconds: ((performance.now() - started.time) / 1000) * scale,
      cpu: place === 'bundled' ? ((user + system) / 1000) * scale : null,
    };
  } finally {
    if (embedding instanceof BundledEmbedding) await embedding.close();
  }
}

async function chunksOf(tenant: TenantClient, enough: (texts: string[]) => boolean): Promise<string[]> {
  const { items } = await tenant.inKb(200, 'GET', '/documents?page_size=100');
  const texts: string[] = [];
  for (const { id } of items) {
    if (enough(texts)) break;
    const { items: chunks } = await tenant.inKb(200, 'GET', `/documents/${id}/chunks?page_size=100`);
    texts.push(...chunks.map((chunk: { text: string }) => chunk.text));
  }
  return texts;
}

async function measureLargeFiles(): Promise<void> {
  const [pdfMb, textMb] = [Number(options['pdf-mb']), Number(options['text-mb'])];
  const files: Array<{ name: string; type: string; path: string; what: string }> = [];
  if (pdfMb > 0) {
    const path = join(folder, 'large.pdf');
    const pages = await writePdf(path, pdfMb);
    files.push({ name: 'large.pdf', type: 'application/pdf', path, what: `PDF of ${pages} pages` });
  }
  if (textMb > 0) {
    const path = join(folder, 'large.txt');
    await writeText(path, textMb);
    files.push({ name: 'large.txt', type: 'text/plain', path, what: 'plain text' });
  }
  const rows: Record<string, Record<string, string | number>> = {};
  // The bundled model would take hours.
  for (const place of places.filter(name => name === 'server')) {
    for (const { name, type, path, what } of files) {
      rows[`${what}, ${place}`] = await inPlace(place, async ({ api, worker }) => {
        const tenant = await TenantClient.create(api.url, 'bench', LARGE_CHUNKS);
        const idle = { api: await residentMemory(api), worker: await residentMemory(worker) };
        const watches = { api: watchMemory(api), worker: watchMemory(worker) };
        const started = performance.now();
        const id = await tenant.addFile(path, name, type);
        const uploaded = performance.now();
        await tenant.settled(LONGEST_MS);
        const ended = performance.now();
        const { status, chunk_count: chunks, error } = await tenant.document(id);
        return {
          size: megabytes(statSync(path).size),
          'ends as': error ? `${status}: ${error.code}` : status,
          chunks,
          'upload s': ((uploaded - started) / 1000).toFixed(1),
          'ingestion s': ((ended - uploaded) / 1000).toFixed(1),
          'chunks/s': (chunks / ((ended - uploaded) / 1000)).toFixed(0),
          'API above idle': megabytes((await watches.api.peak()) - idle.api),
          'worker idle': megabytes(idle.worker),
          'worker above idle': megabytes((await watches.worker.peak()) - idle.worker),
        };
      });
    }
  }
  console.log(`Large files in chunks of ${LARGE_CHUNKS.chunk_size} characters`);
  console.table(rows);
  console.log(`Target: ${MOST_ABOVE_IDLE_MB} MB above idle at most.\n`);
}

/** Where many documents can be made to wait in reasonable time. */
function floodedPlaces(): Place[] {
  return places.filter(place => place === 'server');
}

async function measureFairness(place: Place): Promise<void> {
  const flood = Number(options.flood);
  const { slots, waits, ahead } = await inPlace(place, async ({ api, worker }) => {
    const many = await TenantClient.create(api.url, 'many');
    const one = await TenantClient.create(api.url, 'one');
    await many.inKb(200, 'POST', '/ingestion/pause');
    await inParallel(flood, 16, number => many.addText(`Document number ${number} of very many.`));
    await many.inKb(200, 'POST', '/ingestion/resume');
    await sleep(2_000);
    const { queued = 0 } = (await many.stats()).documents_by_status;
    const asked: Array<{ id: string; at: number; waited: number }> = [];
    for (let turn = 0; turn < TURNS; turn++) {
      const id = await one.addText(`The only document of this tenant that waits, number ${turn}.`);
      let document = await one.document(id);
      for (; document.status !== 'ready'; document = await one.document(id)) await sleep(10);
      const at = Date.parse(document.created_at);
      asked.push({ id, at, waited: Date.now() - at });
    }
    // Those that started before have ended by then, too, and are in the log.
    await sleep(2_000);
    const ingestions = ingestionsIn(worker.output());
    return {
      ahead: queued,
      waits: asked.map(({ waited }) => waited),
      slots: asked.map(({ id, at }) => {
        const own = ingestions.find(({ documentId }) => documentId === id);
        if (!own) throw new Error('A document of the second tenant is not in the log.');
        return ingestions.filter(({ started }) => started > at && started < own.started).length;
      }),
    };
  });
  console.log(
    `Turns between tenants: one document of a second tenant, ${TURNS} times, while the first has many waiting`,
  );
  console.table({
    [place]: {
      waiting: ahead,
      'started before it, at most': Math.max(...slots),
      'ready after ms, median': waits.toSorted((a, b) => a - b)[TURNS >> 1],
      'at most': Math.max(...waits),
    },
  });
  console.log('Target: two at most started before it.\n');
}

async function measureStatistics(): Promise<void> {
  const { chunks, chunksADocument, requests } = STATISTICS;
  const milliseconds = await inPlace('server', async ({ installation, api }) => {
    const tenant = await TenantClient.create(api.url, 'bench');
    await withClient(installation.adminUrl as string, async client => {
      const { rows } = await client.query<{ id: string; tenant_id: string }>(
        'SELECT id, tenant_id FROM knowledge_bases',
      );
      const [{ id, tenant_id: tenantId }] = rows as [{ id: string; tenant_id: string }];
      await client.query(
        `INSERT INTO documents (id, tenant_id, kb_id, title, source, mime_type, size_bytes, content_sha256, status,
                                indexed_version, chunk_count)
         SELECT gen_random_uuid(), $1, $2, 'Document ' || n, 'text', 'text/plain', 1, md5(n::text), 'ready', 1, $4
         FROM generate_series(1, $3::int) AS n`,
        [tenantId, id, chunks / chunksADocument, chunksADocument],
      );
      await client.query(
        `INSERT INTO chunks (id, tenant_id, kb_id, document_id, ordinal, text, start_offset, end_offset, token_count)
         SELECT gen_random_uuid(), d.tenant_id, d.kb_id, d.id, n, 'A chunk.', 0, 8, 2
         FROM documents d, generate_series(0, $1::int - 1) AS n`,
        [chunksADocument],
      );
      await client.query(
        'UPDATE knowledge_bases SET document_count = $1::integer, chunk_count = $2, storage_bytes = $1::integer',
        [chunks / chunksADocument, chunks],
      );
      await client.query('ANALYZE');
    });
    const times: number[] = [];
    for (let request = 0; request < requests; request++) {
      const started = performance.now();
      const stats = await tenant.stats();
      times.push(performance.now() - started);
      if (stats.chunk_count !== chunks) throw new Error(`Counted ${stats.chunk_count} chunks.`);
    }
    return times.toSorted((a, b) => a - b);
  });
  console.log(`Statistics of a knowledge base of ${STATISTICS.chunks.toLocaleString('en')} chunks`);
  console.table({
    'GET …/stats': {
      documents: chunks / chunksADocument,
      'p50 ms': (milliseconds[requests >> 1] as number).toFixed(1),
      'worst ms': (milliseconds.at(-1) as number).toFixed(1),
    },
  });
}

/** What the log says of a document that was ingested. */
interface Ingestion {
  documentId: string;
  /** Milliseconds since 1970. */
  started: number;
  stages: Record<string, number>;
}

function ingestionsIn(log: string): Ingestion[] {
  return log
    .split('\n')
    .filter(line => line.includes('"Document ingested"'))
    .map(line => {
      const entry = JSON.parse(line);
      return {
        documentId: entry.document_id,
        started: Date.parse(entry.time) - entry.duration_ms,
        stages: entry.stages_ms ?? {},
      };
    });
}

function perStage(ingestions: Ingestion[], stage: string, chunks: number): string {
  const total = ingestions.reduce((sum, { stages }) => sum + (stages[stage] ?? 0), 0);
  if (total === 0) return '-';
  return `${(total / ingestions.length).toFixed(0)} ms, ${((chunks / total) * 1000).toFixed(0)} chunks/s`;
}

function requireReady(byStatus: Record<string, number>, count: number): void {
  if (byStatus['ready'] !== count) throw new Error(`Not all are ready: ${JSON.stringify(byStatus)}`);
}
