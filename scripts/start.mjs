// node scripts/start.mjs <entry below dist> [arguments]: builds where needed, then runs the entry in this process, so
// that signals and exit codes are its own.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { BuildError, DIST, build } from './build.mjs';

const [name = 'src/main.js', ...args] = process.argv.slice(2);
const entry = join(DIST, name);

try {
  await build();
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  process.exit(error.exitCode);
}
if (!existsSync(entry)) {
  process.stderr.write(
    `dist/${name} is missing, and there is no compiler to make it. Run "npm install" with devDependencies.\n`,
  );
  process.exit(1);
}
process.argv = [process.execPath, entry, ...args];
await import(pathToFileURL(entry).href);
