/**
 * What tokens, rates, quotas and usage add to a search request, in CPU time of the process that answers it.
 *
 * - all on: an API token, its own rate, every limit of the tenant set (and out of reach), a usage event a request
 * - all off: the same build and the same search, with a session's JWT, and with the guards that count taken out
 *   (`without-limits.mjs`)
 * - between them a JWT with everything else on, so that one sees what belongs to the token
 *
 *   DATABASE_ADMIN_URL=… [REDIS_URL=…] npm run bench -- limits [--seconds 8] [--clients 16] [--turns 4]
 *
 * With REDIS_URL rates are counted in Redis, as several processes do; without, in memory. The knowledge base is small: it
 * is the request that is measured, and not the search. What usage costs later, when a batch is written, is in it.
 */
import autocannon from 'autocannon';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from '../test/setup/client.js';
import { type ServerProcess, startServer } from './child-process.js';
import { ADMIN, createInstallation } from './installation.js';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '8' },
    clients: { type: 'string', default: '16' },
    turns: { type: 'string', default: '4' },
  },
});
const TURNS = Number(options.turns);
const CLIENTS = Number(options.clients);
const WARM_UP_REQUESTS = 2_000;
const DOCUMENTS = 20;
const OUT_OF_REACH = 1_000_000_000;
const TARGET_MS = 0.25;
const PATH = '/tenants/bench/kbs/docs/search';

interface Side {
  name: string;
  process: ServerProcess;
  headers: Record<string, string>;
  /** CPU milliseconds a request, of each turn. */
  cpu: number[];
  latencies: number[];
  seconds: number;
}

const adminUrl = process.env['DATABASE_ADMIN_URL'];
if (!adminUrl) {
  console.log('DATABASE_ADMIN_URL is not set: two processes cannot share an embedded database.');
  process.exit(0);
}
const installation = await createInstallation(adminUrl);
const running: ServerProcess[] = [];
const start = async (...parameters: Parameters<typeof startServer>) => {
  const server = await startServer(...parameters);
  running.push(server);
  return server;
};
try {
  const model = await start('bench/model-endpoint.ts', {});
  const redis = process.env['REDIS_URL'];
  const settings = {
    ...installation.settings,
    EMBEDDING_BASE_URL: `${model.url}/v1`,
    EMBEDDING_MODEL: 'stub',
    ACCESS_TOKEN_TTL_SECONDS: '3600',
    DEFAULT_PLAN_TIER: 'pro',
    ...(redis && { REDIS_URL: redis }),
  };
  const on = await start('dist/src/main.js', settings);
  const { jwt, secret } = await prepare(on.url);
  const off = await start('dist/src/main.js', settings, {
    execArgv: ['--import', join(import.meta.dirname, 'without-limits.mjs')],
  });
  const side = (name: string, server: ServerProcess, headers: Record<string, string>): Side => ({
    name,
    process: server,
    headers,
    cpu: [],
    latencies: [],
    seconds: 0,
  });
  const session = { authorization: `Bearer ${jwt}` };
  const sides = [
    side('all off', off, session),
    side('all on, but a JWT', on, session),
    side('all on', on, { 'x-api-key': secret }),
  ];
  for (const warmed of sides) await load(warmed, { amount: WARM_UP_REQUESTS });
  for (let turn = 0; turn < TURNS; turn++) for (const measured of sides) await measure(measured);
  report(sides, redis ? 'in Redis' : 'in memory');
} finally {
  for (const server of running.toReversed()) await server.stop();
  await installation.remove();
}

/** A tenant with every limit set, a few documents, and somebody who may ask: themselves, and through a token. */
async function prepare(url: string): Promise<{ jwt: string; secret: string }> {
  const anonymous = new Client(url);
  const expect = async (status: number, answer: ReturnType<Client['get']>) => {
    const got = await answer;
    if (got.status !== status)
      throw new Error(`Expected ${status}: ${got.status} ${JSON.stringify(got.body)}`);
    return got.body;
  };
  const admin = anonymous.withToken((await expect(200, anonymous.post('/auth/login', ADMIN))).access_token);
  await expect(201, admin.post('/tenants', { name: 'bench' }));
  await expect(
    200,
    admin.put('/tenants/bench/quotas', {
      quotas: Object.fromEntries(
        [
          'max_api_calls_per_minute',
          'max_api_calls_per_hour',
          'max_api_calls_per_day',
          'max_api_calls_per_month',
          'max_queries_per_hour',
          'max_llm_tokens_per_month',
          'max_concurrent_queries',
        ].map(name => [name, name === 'max_concurrent_queries' ? 1_000 : OUT_OF_REACH]),
      ),
    }),
  );
  await expect(201, admin.post('/tenants/bench/kbs', { name: 'Docs' }));
  for (let number = 0; number < DOCUMENTS; number++) {
    const text = `Document ${number} says when the shop number ${number} opens, and what it sells.`;
    await expect(202, admin.post('/tenants/bench/kbs/docs/documents/text', { text }));
  }
  for (let ready = 0; ready < DOCUMENTS;) {
    ready = (await expect(200, admin.get('/tenants/bench/kbs/docs/stats'))).documents_by_status.ready ?? 0;
  }
  const person = { email: 'asker@enclave.bench', password: 'somebody who asks', display_name: 'Asker' };
  const { user, access_token: jwt } = await expect(201, anonymous.post('/auth/register', person));
  await expect(201, admin.post('/tenants/bench/members', { user_id: user.id, role: 'owner' }));
  const token = { name: 'Bench', scopes: ['query:run'], rate_limit_per_minute: 1_000_000 };
  const { secret } = await expect(201, anonymous.withToken(jwt).post('/tenants/bench/api-tokens', token));
  return { jwt, secret };
}

async function measure(side: Side): Promise<void> {
  const before = (await side.process.usage()).cpu;
  const { latencies, seconds } = await load(side, { duration: Number(options.seconds) / TURNS });
  side.cpu.push(((await side.process.usage()).cpu - before) / latencies.length);
  side.latencies.push(...latencies);
  side.seconds += seconds;
}

async function load(
  { name, process: server, headers }: Side,
  extent: { amount: number } | { duration: number },
): Promise<{ latencies: number[]; seconds: number }> {
  const latencies: number[] = [];
  const statuses = new Map<number, number>();
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const run = autocannon(
      {
        url: `${server.url}/api/v1${PATH}`,
        connections: CLIENTS,
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ query: 'When does the shop open?', top_k: 5 }),
        ...extent,
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
  return { latencies, seconds: result.duration };
}

function report(sides: readonly Side[], where: string): void {
  const [off] = sides as [Side, ...Side[]];
  console.log(`${CLIENTS} clients, rates counted ${where}; CPU of the median turn of ${TURNS}`);
  console.table(
    Object.fromEntries(
      sides.map(side => [
        side.name,
        {
          'requests/s': Math.round(side.latencies.length / side.seconds),
          'p50 ms': percentile(side.latencies, 0.5).toFixed(2),
          'p99 ms': percentile(side.latencies, 0.99).toFixed(2),
          'CPU ms/request': percentile(side.cpu, 0.5).toFixed(3),
          added: (percentile(side.cpu, 0.5) - percentile(off.cpu, 0.5)).toFixed(3),
        },
      ]),
    ),
  );
  console.log(
    `Off: the same build without the guards that count, and a JWT. Target: ${TARGET_MS} ms added at most.`,
  );
}

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)] as number;
}
