import { readFileSync } from 'node:fs';

const root = import.meta.url.includes('/dist/src/') ? '../../../../' : '../../../';

/** Of package.json. */
export const VERSION: string = (
  JSON.parse(readFileSync(new URL(`${root}package.json`, import.meta.url), 'utf8')) as { version: string }
).version;
