/**
 * Time to the first streamed token of an answer, beside that of the model itself, in turns; every question is a new one.
 *
 *   npm run bench -- first-token [--questions 200] [--texts 300]
 *
 * Runs on a database of its own on the server of DATABASE_ADMIN_URL, and embedded without one.
 */
import { parseArgs } from 'node:util';
import { Client } from '../test/setup/client.js';
import { type ServerProcess, startServer } from './child-process.js';
import { ADMIN, createInstallation } from './installation.js';
import { TenantClient } from './tenant-client.js';

const { values: options } = parseArgs({
  options: {
    questions: { type: 'string', default: '200' },
    texts: { type: 'string', default: '300' },
  },
});
const WARM_UP = 50;
const TOPICS = [
  'frames',
  'batteries',
  'tyres',
  'saddles',
  'brakes',
  'chains',
  'lamps',
  'bells',
  'pedals',
  'locks',
];

const installation = await createInstallation(process.env['DATABASE_ADMIN_URL']);
const running: ServerProcess[] = [];
const start = async (...parameters: Parameters<typeof startServer>) => {
  const server = await startServer(...parameters);
  running.push(server);
  return server;
};
try {
  const model = await start('bench/model-endpoint.ts', {});
  const url = `${model.url}/v1`;
  const server = await start('dist/src/main.js', {
    ...installation.settings,
    EMBEDDING_BASE_URL: url,
    EMBEDDING_MODEL: 'stub',
    LLM_BASE_URL: url,
    LLM_MODEL: 'stub',
  });
  const tenant = await TenantClient.create(server.url, 'first');
  for (let i = 0; i < Number(options.texts); i++) await tenant.addText(textOf(i));
  await tenant.settled(600_000);
  const { access_token: token } = (await new Client(server.url).post('/auth/login', ADMIN)).body;

  const ours: number[] = [];
  const models: number[] = [];
  for (let i = -WARM_UP; i < Number(options.questions); i++) {
    const body = {
      query: `How long is the warranty on ${topicOf(i)} of the year ${2_100 + i}?`,
      stream: true,
    };
    const answer = await firstToken(
      `${server.url}/api/v1/tenants/first/kbs/docs/query`,
      body,
      /event: token\n/,
      token,
    );
    const messages = [{ role: 'user', content: `${'passage '.repeat(1_500)} ${body.query}` }];
    const own = await firstToken(
      `${url}/chat/completions`,
      { model: 'stub', stream: true, messages },
      /"content":"[^"]/,
    );
    if (i < 0) continue;
    ours.push(answer);
    models.push(own);
  }
  const row = (name: string, times: number[]) =>
    console.log(`${name.padEnd(28)}${share(times, 0.5)} ms  ${share(times, 0.95)} ms`);
  console.log(`${''.padEnd(28)}   median        p95`);
  row('the model itself', models);
  row('an answer of ours', ours);
  const added = percentile(ours, 0.5) - percentile(models, 0.5);
  console.log(`\nadded, median: ${added.toFixed(1)} ms${installation.adminUrl ? '' : ' (embedded)'}`);
} finally {
  for (const server of running.toReversed()) await server.stop();
  await installation.remove();
}

function topicOf(i: number): string {
  return TOPICS[Math.abs(i) % TOPICS.length] as string;
}

function textOf(i: number): string {
  const topic = topicOf(i);
  return `In the year ${2_000 + i} the warranty on ${topic} was ${i} months. ${`Whoever buys ${topic} keeps the bill. `.repeat(20)}`;
}

/** Milliseconds until the answer holds `sign`; the rest is read, too. */
async function firstToken(url: string, body: object, sign: RegExp, token?: string): Promise<number> {
  const started = performance.now();
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(body),
  });
  let text = '';
  let first: number | null = null;
  for await (const piece of (response.body as ReadableStream).pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (first === null && sign.test(text)) first = performance.now() - started;
  }
  if (first === null) throw new Error(`There was no token: ${response.status} ${text.slice(0, 500)}`);
  return first;
}

function percentile(times: readonly number[], part: number): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * part)] as number;
}

function share(times: readonly number[], part: number): string {
  return percentile(times, part).toFixed(1).padStart(8);
}
