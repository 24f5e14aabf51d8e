/**
 * What the server does with requests that nobody should send, with faults of what it stands on, and with very many
 * requests.
 *
 *   npm run bench -- robustness [--parts fuzz,faults,memory] [--places embedded,server]
 *                               [--fuzz 20000] [--seed 1] [--requests 100000] [--only 'PostgreSQL,Redis']
 *
 * fuzz     requests that a seed makes of the OpenAPI document; each answer is held against it
 * faults   a bounded load of two tenants while something breaks, fault by fault; each answer is looked through for what is
 *          the other tenant's, and what was acknowledged is read back
 * memory   resident memory over many requests
 *
 * The server's PostgreSQL and Redis are those of `bench -- ingest-faults`, whose head says how to give it a PostgreSQL that
 * may be killed. Ends with 1 where something does not hold.
 */
import { parseArgs } from 'node:util';
import { measureFaults } from './robustness-faults.js';
import { measureFuzz } from './robustness-fuzz.js';
import { measureMemory } from './robustness-memory.js';
import { type Place, startPlace } from './robustness-place.js';

const { values: options } = parseArgs({
  options: {
    parts: { type: 'string', default: 'fuzz,faults,memory' },
    places: { type: 'string', default: 'embedded,server' },
    fuzz: { type: 'string', default: '20000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    requests: { type: 'string', default: '100000' },
    only: { type: 'string', default: '' },
  },
});

const PLACES = ['embedded', 'server'];
const PARTS: Record<string, (place: Place) => Promise<number>> = {
  fuzz: place => measureFuzz(place, Number(options.fuzz), Number(options.seed)),
  faults: place =>
    measureFaults(
      place,
      options.only.split(',').filter(name => name !== ''),
    ),
  memory: place => measureMemory(place, Number(options.requests)),
};

for (const part of options.parts.split(',')) {
  if (!PARTS[part]) throw new Error(`There is no part ${part}: ${Object.keys(PARTS).join(', ')}.`);
}
for (const name of options.places.split(',')) {
  if (!PLACES.includes(name)) throw new Error(`There is no place ${name}: ${PLACES.join(', ')}.`);
}
for (const name of ['fuzz', 'requests'] as const) {
  const count = Number(options[name]);
  if (!Number.isInteger(count) || count < 1)
    throw new Error(`--${name} is a whole number of requests, not ${options[name]}.`);
}

let violations = 0;
for (const name of options.places.split(',')) {
  if (name === 'server' && !process.env['FAULTS_POSTGRES_URL'] && !process.env['DATABASE_ADMIN_URL']) {
    console.log('Without DATABASE_ADMIN_URL or FAULTS_POSTGRES_URL there is no server.');
    continue;
  }
  for (const part of options.parts.split(',')) {
    const measure = PARTS[part] as (place: Place) => Promise<number>;
    // Each on an installation of its own: what one leaves behind is not the next one's.
    const place = await startPlace(name, { smallDisk: part === 'faults' });
    try {
      console.log(`\n${part}, ${name}`);
      violations += await measure(place);
    } finally {
      await place.remove();
    }
  }
}
if (violations > 0) console.error(`\n${violations} violations`);
process.exit(violations > 0 ? 1 : 0);
