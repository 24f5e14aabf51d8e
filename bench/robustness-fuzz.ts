import { fuzz, summaryOf } from '../test/setup/fuzz/run.js';
import { ADMIN } from './installation.js';
import type { Place } from './robustness-place.js';

/** Share of the requests that may meet a change of the same thing at the same moment, and are told so. */
const MOST_BUSY = 0.005;

/** @returns how many requests were answered as they should not be */
export async function measureFuzz(place: Place, requests: number, seed: number): Promise<number> {
  const started = performance.now();
  const result = await fuzz({
    url: place.server.url,
    admin: ADMIN,
    requests,
    seed,
    secrets: new Map([[place.installation.dataDir, 'the data folder']]),
  });
  const { operations, slowest, faults, classes, busy } = result;
  const failed = new Set(faults.map(({ number }) => number)).size;
  console.table({
    seed,
    requests: result.requests,
    ...classes,
    'operations asked': `${operations.asked} of ${operations.known}`,
    'of them with a 2xx': operations.succeeded,
    'slowest answer, ms': `${slowest.took} (${slowest.key})`,
    'of them 503 busy': busy,
    failures: failed,
    seconds: Math.round((performance.now() - started) / 1000),
  });
  if (result.refused.length > 0) console.log('Never with a 2xx:', result.refused.join(', '));
  for (const line of summaryOf(result)) console.log(line);
  if (busy > requests * MOST_BUSY) console.log('More requests met another’s change than should.');
  if (place.server.hasEnded()) console.log('The server has ended.');
  return failed + (busy > requests * MOST_BUSY ? 1 : 0) + (place.server.hasEnded() ? 1 : 0);
}
