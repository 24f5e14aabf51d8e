import { fuzz, summaryOf } from '../test/setup/fuzz/run.js';
import { ADMIN } from './installation.js';
import type { Place } from './robustness-place.js';

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
  const { operations, slowest, faults, classes } = result;
  const failed = new Set(faults.map(({ number }) => number)).size;
  console.table({
    seed,
    requests: result.requests,
    ...classes,
    'operations asked': `${operations.asked} of ${operations.known}`,
    'of them with a 2xx': operations.succeeded,
    'slowest answer, ms': `${slowest.took} (${slowest.key})`,
    failures: failed,
    seconds: Math.round((performance.now() - started) / 1000),
  });
  if (result.refused.length > 0) console.log('Never with a 2xx:', result.refused.join(', '));
  for (const line of summaryOf(result)) console.log(line);
  if (place.server.hasEnded()) console.log('The server has ended.');
  return failed + (place.server.hasEnded() ? 1 : 0);
}
