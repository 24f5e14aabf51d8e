/**
 * From `node dist/src/main.js` to the line that says it is ready: the very first time, which makes the database, and
 * later ones. Then the resident memory of an idle process.
 *
 *   npm run bench -- startup [--idle 20]
 *
 * Embedded, and on the server of DATABASE_ADMIN_URL where it is set.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startServer } from './child-process.js';
import { createInstallation } from './installation.js';

const { values: options } = parseArgs({ options: { idle: { type: 'string', default: '20' } } });
/** Starts after the first, of which the median counts. */
const LATER_STARTS = 3;

const places: Array<[name: string, serverUrl: string | undefined]> = [['embedded', undefined]];
if (process.env['DATABASE_ADMIN_URL']) places.push(['on a server', process.env['DATABASE_ADMIN_URL']]);

const rows: Record<string, Record<string, string>> = {};
for (const [name, serverUrl] of places) {
  const installation = await createInstallation(serverUrl);
  const start = () => startServer('dist/src/main.js', installation.settings);
  try {
    let process = await start();
    const first = process.readyAfter;
    const later: number[] = [];
    for (let i = 0; i < LATER_STARTS; i++) {
      await process.stop();
      process = await start();
      later.push(process.readyAfter);
    }
    await sleep(Number(options.idle) * 1000);
    const { rss } = await process.usage();
    await process.stop();
    rows[name] = {
      'first start': seconds(first),
      'later start': seconds(later.toSorted((a, b) => a - b)[LATER_STARTS >> 1] as number),
      [`idle after ${options.idle} s`]: `${Math.round(rss / 2 ** 20)} MB`,
    };
  } finally {
    await installation.remove();
  }
}
console.table(rows);
console.log('Targets: 10 s the first time, 5 s later; 700 MB embedded, 300 MB on a server.');

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
