/**
 * Documents that are uploaded, replaced and deleted while processes are killed (kill -9) at random moments; then what is
 * left of them. Embedded it is the one process; on a server the API, two workers, Redis and PostgreSQL.
 *
 *   npm run bench -- ingest-faults [--places embedded,server] [--documents 300] [--kills 15] [--seed 1]
 *
 * Redis is one of this benchmark's own (redis-server must be installed). The server's PostgreSQL is that of
 * DATABASE_ADMIN_URL, whose sessions are ended, unless these name one that may be killed:
 *
 *   FAULTS_POSTGRES_RUN   a shell command that becomes the server, in the foreground, on an existing cluster:
 *                         exec /usr/lib/postgresql/17/bin/postgres -D /tmp/faults -p 55999 -k /tmp
 *   FAULTS_POSTGRES_URL   its superuser: postgres://postgres@127.0.0.1:55999/postgres
 *
 * Ends with 1 where a document was lost, doubled or half there, where a count is wrong, or something was left behind.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { utimesSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { pdfOf, uploadOf } from '../test/setup/files.js';
import { freePort } from '../test/setup/free-port.js';
import { type ModelServer, startModelServer } from '../test/setup/model-server.js';
import { startRedisServer } from '../test/setup/redis-server.js';
import { type ServerProcess, startServer } from './child-process.js';
import { type Found, type Query, findRemains, storedKeys } from '../test/setup/ingestion-remains.js';
import { type Installation, createInstallation, withClient } from './installation.js';
import { type Victim, startPostgres } from './breakable-postgres.js';
import { TenantClient, inParallel } from './tenant-client.js';
import { textOf } from './texts.js';

const { values: options } = parseArgs({
  options: {
    places: { type: 'string', default: 'embedded,server' },
    documents: { type: 'string', default: '300' },
    kills: { type: 'string', default: '15' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
  },
});
const DOCUMENTS = Number(options.documents);
const KILLS = Number(options.kills);
const UPLOADS_AT_ONCE = 6;
const DOCUMENT_LENGTH = 6_000;
/** Milliseconds that the model takes for a batch: so long that most kills meet an ingestion under way. */
const MODEL_LATENCY = 250;
const BETWEEN_KILLS = { least: 500, most: 4_000 };
const DOWN = { least: 50, most: 1_500 };
/** A worker that was killed is given half a minute to show that it lives; and each of its documents may have been retried. */
const LONGEST_RECOVERY = 240_000;
/** What does not arrive by then never will: kills last seconds. */
const LONGEST_TRYING_MS = 600_000;

/** Each document by its number: some are broken, some come as files, some are replaced and some deleted again. */
const isBroken = (number: number) => number % 20 === 7;
const isFile = (number: number) => number % 3 === 0;
const isReplaced = (number: number) => number % 10 === 4;
const isDeleted = (number: number) => number % 15 === 8;
/** By their titles: what is tried again is the same. */
const texts = new Map<string, string>();

/** Everything that one round runs. */
interface Round {
  installation: Installation;
  url: string;
  victims: Victim[];
  /** Of our own processes, those that have ended without being killed. */
  deadOfThemselves: () => string[];
  /** Ends the application; its database stays. */
  stop(): Promise<void>;
  remove(): Promise<void>;
}

const random = generator(Number(options.seed));
const between = ({ least, most }: { least: number; most: number }) => least + random() * (most - least);

console.log(`${DOCUMENTS} documents, ${KILLS} kills, seed ${options.seed}`);
if (![DOCUMENTS, KILLS].every(count => Number.isInteger(count) && count > 0))
  throw new Error('--documents and --kills are whole numbers from 1.');
let violations = 0;
let rounds = 0;
for (const place of options.places.split(',')) {
  if (!['embedded', 'server'].includes(place))
    throw new Error(`There is no place ${place}: embedded, server.`);
  if (place === 'server' && !process.env['FAULTS_POSTGRES_URL'] && !process.env['DATABASE_ADMIN_URL']) {
    console.log('Without DATABASE_ADMIN_URL or FAULTS_POSTGRES_URL there is no server.');
    continue;
  }
  violations += await runRound(place);
  rounds++;
}
process.exit(violations > 0 || rounds === 0 ? 1 : 0);

/** @returns how many of the checks have failed */
async function runRound(place: string): Promise<number> {
  const model = await startModelServer({ latency: MODEL_LATENCY });
  const round = place === 'server' ? await onServer(model) : await embedded(model);
  try {
    const tenant = await TenantClient.create(round.url, 'bench');
    const kills = new Map<string, number>();
    const next: Victim[] = [];
    const started = performance.now();
    const uploads = { pending: true };
    const uploaded = inParallel(DOCUMENTS, UPLOADS_AT_ONCE, number => bringIn(tenant, number)).finally(
      () => (uploads.pending = false),
    );
    // Awaited once the killing has ended.
    uploaded.catch(() => undefined);
    for (let kill = 0; kill < KILLS || uploads.pending; kill++) {
      await sleep(between(BETWEEN_KILLS));
      // In turns, each in another order: so that everybody is killed.
      if (next.length === 0) next.push(...shuffled(round.victims));
      const victim = next.pop() as Victim;
      await victim.kill();
      await sleep(between(DOWN));
      await victim.start();
      kills.set(victim.name, (kills.get(victim.name) ?? 0) + 1);
    }
    await uploaded;
    const last = performance.now();
    const stats = await untilSettled(tenant);
    const recovered = performance.now();
    const deadOfThemselves = round.deadOfThemselves();
    await round.stop();
    sweep(round.installation);
    const found = await look(round.installation, expectedContents());
    found.push({
      what: 'processes that ended of themselves',
      count: deadOfThemselves.length,
      examples: deadOfThemselves,
      tolerated: false,
    });

    console.log(`\n${place}: ${[...kills].map(([name, count]) => `${name} ${count}`).join(', ')}`);
    console.table({
      'killed for s': ((last - started) / 1000).toFixed(0),
      'all settled s later': ((recovered - last) / 1000).toFixed(0),
      documents: stats.document_count,
      ...stats.documents_by_status,
      chunks: stats.chunk_count,
      'texts embedded': model.texts,
    });
    console.table(Object.fromEntries(found.map(({ what, count }) => [what, count])));
    for (const { what, examples } of found) if (examples.length > 0) console.log(what, examples);
    return found.filter(({ count, tolerated }) => count > 0 && !tolerated).length;
  } finally {
    await round.stop();
    await round.remove();
    await model.close();
  }
}

function contentOf(number: number, version = 1): Buffer {
  if (isBroken(number)) return pdfOf([`Broken ${number}`]).subarray(0, -20);
  const title = `Document ${number}, version ${version}`;
  const text = texts.get(title) ?? textOf(title, DOCUMENT_LENGTH);
  texts.set(title, text);
  return Buffer.from(text);
}

/** Until it has certainly arrived: whatever fails on the way is tried again, as a client does that has heard nothing. */
async function bringIn(tenant: TenantClient, number: number): Promise<void> {
  const id = await add(tenant, number, 1);
  if (isReplaced(number)) await add(tenant, number, 2);
  if (!isDeleted(number)) return;
  await persistently(async () => {
    const { status } = await tenant.send('DELETE', `/documents/${id}`);
    return status === 204 || status === 404 ? 'gone' : null;
  });
}

/** @returns the document's id */
function add(tenant: TenantClient, number: number, version: number): Promise<string> {
  const content = contentOf(number, version);
  return persistently(async () => {
    const asFile = isBroken(number) || isFile(number);
    const { status, body } = asFile
      ? await tenant.send(
          'POST',
          '/documents',
          uploadOf([[content, `${number}.${isBroken(number) ? 'pdf' : 'md'}`]]),
        )
      : await tenant.send('POST', '/documents/text', {
          text: content.toString(),
          source_id: `text ${number}`,
        });
    // Where an attempt before has arrived without an answer, the document is there already.
    return status === 200 || status === 202
      ? (body.items?.[0]?.id ?? body.documents?.[0]?.id ?? body.id)
      : status === 409
        ? body.document_id
        : null;
  });
}

/** @throws Error after so long that it is not the kills' fault any more */
async function persistently<T>(attempt: () => Promise<T | null>): Promise<T> {
  let last = 'refused';
  for (const until = performance.now() + LONGEST_TRYING_MS; performance.now() < until;) {
    const result = await attempt().catch((error: unknown) => {
      last = (error as Error).message;
      return null;
    });
    if (result !== null) return result;
    await sleep(200);
  }
  throw new Error(`What was sent has not arrived within ${LONGEST_TRYING_MS / 60_000} min: ${last}`);
}

function expectedContents(): Set<string> {
  const numbers = Array.from({ length: DOCUMENTS }, (_, number) => number).filter(
    number => !isDeleted(number),
  );
  return new Set(
    numbers.map(number =>
      createHash('sha256')
        .update(contentOf(number, isReplaced(number) ? 2 : 1))
        .digest('hex'),
    ),
  );
}

async function untilSettled(tenant: TenantClient) {
  for (const until = performance.now() + LONGEST_RECOVERY; ;) {
    const settled = await tenant.settled(10_000).catch(() => null);
    if (settled) return settled;
    // Whatever is left then is among what is found.
    if (performance.now() > until) return tenant.stats();
  }
}

/** What is in the database and in the storage after everything has ended. */
async function look(installation: Installation, contents: Set<string>): Promise<Found[]> {
  const stored = storedKeys(installation.dataDir);
  const ask = (query: Query) => findRemains(query, { contents, stored });
  if (installation.adminUrl) {
    return withClient(installation.adminUrl, client =>
      ask(async (sql, parameters) => (await client.query(sql, parameters)).rows),
    );
  }
  const access = await installation.open();
  const dataSource = access.administration();
  await dataSource.initialize();
  try {
    return await ask((sql, parameters) => dataSource.query(sql, parameters));
  } finally {
    await dataSource.destroy();
    await access.close();
  }
}

function sweep({ settings, dataDir }: Installation): void {
  // What is left of an upload that broke off stays for a day: a day goes by.
  const longAgo = new Date(0);
  for (const key of storedKeys(dataDir)) utimesSync(join(dataDir, 'files', key), longAgo, longAgo);
  const command = ['dist/src/cli.js', 'storage', 'sweep', '--older-than-minutes', '0'];
  execFileSync(process.execPath, command, {
    cwd: join(import.meta.dirname, '..'),
    env: { PATH: process.env['PATH'], ...settings },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

async function embedded(model: ModelServer): Promise<Round> {
  const installation = await createInstallation(undefined);
  const port = await freePort();
  const settings = { ...settingsOf(installation, model), PORT: String(port) };
  const server = ownProcess('server', () => startServer('dist/src/main.js', settings));
  await server.victim.start();
  return {
    installation,
    url: `http://127.0.0.1:${port}`,
    victims: [server.victim],
    deadOfThemselves: () => (server.diedOfItself() ? ['server'] : []),
    stop: () => server.stop(),
    remove: () => installation.remove(),
  };
}

async function onServer(model: ModelServer): Promise<Round> {
  const redis = await startRedisServer();
  const postgres = await startPostgres();
  const installation = await createInstallation(postgres.url);
  const port = await freePort();
  const settings = {
    ...settingsOf(installation, model),
    REDIS_URL: redis.url,
    WORKER: 'external',
    PORT: String(port),
  };
  const worker = () => startServer('dist/src/worker.js', settings, { ready: /works on jobs/ });
  const own = {
    API: ownProcess('API', () => startServer('dist/src/main.js', settings)),
    'worker 1': ownProcess('worker 1', worker),
    'worker 2': ownProcess('worker 2', worker),
  };
  const processes = Object.values(own);
  for (const { victim } of processes) await victim.start();
  return {
    installation,
    url: `http://127.0.0.1:${port}`,
    victims: [
      ...processes.map(({ victim }) => victim),
      { name: 'Redis', kill: () => redis.stop(), start: () => redis.start() },
      postgres.victimIn(installation),
    ],
    deadOfThemselves: () => Object.entries(own).flatMap(([name, one]) => (one.diedOfItself() ? [name] : [])),
    stop: async () => {
      for (const { stop } of processes) await stop();
      await redis.stop();
    },
    remove: async () => {
      await installation.remove();
      await postgres.stop();
    },
  };
}

function settingsOf(installation: Installation, model: ModelServer): Record<string, string> {
  return {
    ...installation.settings,
    LOG_LEVEL: 'fatal',
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    ACCESS_TOKEN_TTL_SECONDS: '3600',
  };
}

/** A process of this application. */
function ownProcess(name: string, begin: () => Promise<ServerProcess>) {
  let running: ServerProcess | null = null;
  let died = false;
  const victim: Victim = {
    name,
    async kill() {
      died ||= running?.hasEnded() ?? false;
      await running?.kill();
      running = null;
    },
    async start() {
      running = await begin();
    },
  };
  return {
    victim,
    diedOfItself: () => died || (running?.hasEnded() ?? false),
    stop: async () => {
      await running?.stop();
      running = null;
    },
  };
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map(item => ({ item, place: random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

/** Mulberry32: the same kills for the same seed, as far as time allows. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
