// After `npm install`: the Git hooks, and a first build, so that the first `npm start` is quick. Neither is worth
// failing an installation for: without devDependencies both are left out.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, ROOT, build } from './build.mjs';

const wantsHooks = process.env.HUSKY !== '0' && existsSync(join(ROOT, '.git'));
if (wantsHooks && existsSync(join(ROOT, 'node_modules/husky'))) {
  const { default: husky } = await import('husky');
  const message = husky();
  if (message) process.stderr.write(`${message}\n`);
}

try {
  await build();
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  process.stderr.write('The sources do not build yet; "npm start" will try again.\n');
}
