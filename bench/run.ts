/**
 * Runs benchmarks by name, each in a process of its own:
 *
 *   npm run bench                     the quick ones
 *   npm run bench -- search           one
 *   npm run bench -- search --help    its options
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';

interface Benchmark {
  about: string;
  /** Among those that run when none is named. */
  quick: boolean;
}

const BENCHMARKS: Record<string, Benchmark> = {
  authorization: { about: 'AuthorizationService.can, cold and warm', quick: true },
  audit: { about: 'What the audit costs twenty writers of one tenant: needs a server', quick: true },
  scale: { about: '100 and 10,000 tenants side by side: needs a server', quick: false },
  startup: { about: 'Time until ready and idle memory, embedded and on a server', quick: true },
  limits: { about: 'What tokens, rates, quotas and usage add to a search: needs a server', quick: true },
  usage: { about: 'A million usage events of one tenant: reading and writing them', quick: false },
  'first-token': {
    about: 'Time to the first token of a streamed answer beside the model’s own',
    quick: true,
  },
  search: { about: 'Search through the whole stack against a bare Fastify + pg endpoint', quick: true },
  ingest: { about: 'Ingestion by stage, its memory, its turns: a server for most', quick: false },
  'ingest-faults': { about: 'Documents uploaded while processes are killed, and what is left', quick: false },
  robustness: {
    about: 'Requests at random, faults under load, and memory over 100,000 requests',
    quick: false,
  },
  retrieval: {
    about: 'nDCG, MRR and answers on judged collections, way by way: needs <folder>',
    quick: false,
  },
};

const [named, ...options] = process.argv.slice(2);
if (named !== undefined && !Object.hasOwn(BENCHMARKS, named)) {
  console.log('npm run bench [-- <benchmark> [options]]\n');
  for (const [name, { about, quick }] of Object.entries(BENCHMARKS)) {
    console.log(`  ${name.padEnd(20)}${about}${quick ? '' : ' (only by name)'}`);
  }
  process.exit(named === '--help' ? 0 : 2);
}

const root = join(import.meta.dirname, '..');
const chosen = named ? [named] : Object.keys(BENCHMARKS).filter(name => BENCHMARKS[name]?.quick);
// What is measured is what runs in production: compiled.
execFileSync('npx', ['nest', 'build'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
const failed = chosen.filter(name => {
  console.log(`\n${name}: ${BENCHMARKS[name]?.about}\n`);
  const { status } = spawnSync(
    process.execPath,
    ['--import', 'tsx', join(root, 'bench', `${name}.ts`), ...options],
    {
      cwd: root,
      stdio: 'inherit',
    },
  );
  return status !== 0;
});
if (failed.length > 0) {
  console.error(`\nFailed: ${failed.join(', ')}`);
  process.exit(1);
}
