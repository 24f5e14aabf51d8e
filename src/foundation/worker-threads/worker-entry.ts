import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** `src`, or what a build made of it. */
const ROOT = join(import.meta.dirname, '../..');

/** What `new Worker(filename, { execArgv })` and Piscina need to start a thread. */
export interface WorkerEntry {
  filename: string;
  execArgv: string[];
}

let compiledRoot: string | null = null;

/**
 * For a process that runs from source and has a build of the same source beside it: a thread starts five times as
 * fast from that.
 *
 * @param folder the build's counterpart of `src`
 */
export function startCompiledWorkers(folder: string): void {
  compiledRoot = folder;
}

/**
 * Locates a worker thread's module beside its caller: the compiled `.js` in production, the `.ts` source
 * (through tsx) when the caller itself runs from source, as in tests, unless `startCompiledWorkers` named a build.
 *
 * @param callerUrl the caller's `import.meta.url`
 * @param specifier relative path without extension, e.g. `./embedding.worker`
 */
export function workerEntry(callerUrl: string, specifier: string): WorkerEntry {
  const caller = fileURLToPath(callerUrl);
  const module = join(dirname(caller), specifier);
  if (!caller.endsWith('.ts')) return { filename: `${module}.js`, execArgv: [] };
  if (compiledRoot) return { filename: `${join(compiledRoot, relative(ROOT, module))}.js`, execArgv: [] };
  return { filename: `${module}.ts`, execArgv: ['--import', registerTsx()] };
}

/** `--import tsx` acts on the main thread alone; its register() does on any. */
function registerTsx(): string {
  // Not import.meta.resolve: Vite's module runner, which runs vitest's global set-up, has none.
  const api = pathToFileURL(
    createRequire(import.meta.url)
      .resolve('tsx/esm/api')
      .replace(/\.cjs$/, '.mjs'),
  ).href;
  return `data:text/javascript,import { register } from ${JSON.stringify(api)}; register();`;
}
