import { Pool } from 'undici';
import { TenantClient, inParallel } from './tenant-client.js';
import { megabytes, residentMemory } from './memory.js';
import { ADMIN } from './installation.js';
import type { Place } from './robustness-place.js';

const LANES = 12;
const ROWS = 10;
/** Of which the lowest counts: what is above it is garbage that was not collected yet. */
const SAMPLES_A_ROW = 20;
/** Until code is compiled, memories are full and the heap has its size. */
const WARM_UP_SHARE = 0.4;
/** What is more than this is no noise, by the hundred thousand requests. */
const MOST_GROWTH = 40 * 2 ** 20;
/** Of fewer, memories that have a size are still being filled: growth is shown, not judged. */
const LEAST_REQUESTS = 50_000;
const TENANT = 'memory';

/** @returns 1 where memory grows with the requests */
export async function measureMemory(place: Place, requests: number): Promise<number> {
  const { server } = place;
  const tenant = await TenantClient.create(server.url, TENANT);
  for (let number = 0; number < 20; number++)
    await tenant.addText(`Text ${number}: the warranty of product ${number} lasts ${number} years.`);
  await tenant.settled(60_000);
  const login = await fetch(`${server.url}/api/v1/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(ADMIN),
  });
  const { access_token: token } = (await login.json()) as { access_token: string };
  const pool = new Pool(server.url, { connections: LANES });
  let refused = 0;
  const send = async (method: string, path: string, body?: unknown): Promise<void> => {
    const answer = await pool.request({
      method: method as 'GET',
      path: `/api/v1${path}`,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    await answer.body.dump({ limit: 1e9 });
    if (answer.statusCode >= 300) refused++;
  };
  const kb = `/tenants/${TENANT}/kbs/docs`;
  const mix: Array<(number: number) => Promise<void>> = [
    number => send('POST', `${kb}/search`, { query: `warranty of product ${number % 500}` }),
    number => send('POST', `${kb}/search`, { query: `product ${number}`, mode: 'keyword' }),
    () => send('GET', `${kb}/documents?page_size=5`),
    () => send('GET', `/tenants/${TENANT}/members`),
    number => send('PATCH', `/tenants/${TENANT}`, { description: `Description ${number}` }),
    number => send('POST', `${kb}/query`, { query: `How long is the warranty of product ${number % 50}?` }),
    () => send('GET', '/auth/me'),
    number => send('GET', `/tenants/${TENANT}/no-such-route-${number}`).then(() => void refused--),
  ];
  const rows: Array<{ requests: number; lowest: number; highest: number }> = [];
  const started = performance.now();
  const step = Math.ceil(requests / ROWS / SAMPLES_A_ROW);
  let samples: number[] = [];
  for (let done = 0; done < requests; done += step) {
    const count = Math.min(step, requests - done);
    await inParallel(count, LANES, index =>
      (mix[index % mix.length] as (number: number) => Promise<void>)(done + index),
    );
    samples.push(await residentMemory(server));
    if (samples.length < SAMPLES_A_ROW && done + count < requests) continue;
    rows.push({ requests: done + count, lowest: Math.min(...samples), highest: Math.max(...samples) });
    samples = [];
  }
  await pool.close();
  const settled = rows.slice(Math.floor(rows.length * WARM_UP_SHARE));
  const growth = slopeOf(settled) * 100_000;
  console.table(
    rows.map(({ requests: after, lowest, highest }) => ({
      requests: after,
      'resident memory, lowest': megabytes(lowest),
      highest: megabytes(highest),
    })),
  );
  console.table({
    requests,
    'not answered with 2xx': refused,
    'growth by 100,000 requests': megabytes(growth),
    'at most': requests < LEAST_REQUESTS ? 'too few requests to judge' : megabytes(MOST_GROWTH),
    seconds: Math.round((performance.now() - started) / 1000),
  });
  return (requests >= LEAST_REQUESTS && growth > MOST_GROWTH ? 1 : 0) + (refused > 0 ? 1 : 0);
}

/** Bytes by the request: least squares. */
function slopeOf(rows: ReadonlyArray<{ requests: number; lowest: number }>): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const x = mean(rows.map(({ requests }) => requests));
  const y = mean(rows.map(({ lowest }) => lowest));
  const above = rows.reduce((sum, { requests, lowest }) => sum + (requests - x) * (lowest - y), 0);
  const below = rows.reduce((sum, { requests }) => sum + (requests - x) ** 2, 0);
  return below === 0 ? 0 : above / below;
}
