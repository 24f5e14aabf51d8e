import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** What `new Worker(filename, { execArgv })` and Piscina need to start a thread. */
export interface WorkerEntry {
  filename: string;
  execArgv: string[];
}

/**
 * Locates a worker thread's module beside its caller: the compiled `.js` in production, the `.ts` source
 * (through tsx) when the caller itself runs from source, as in tests.
 *
 * @param callerUrl the caller's `import.meta.url`
 * @param specifier relative path without extension, e.g. `./embedding.worker`
 */
export function workerEntry(callerUrl: string, specifier: string): WorkerEntry {
  const fromSource = callerUrl.endsWith('.ts');
  const filename = fileURLToPath(new URL(`${specifier}${fromSource ? '.ts' : '.js'}`, callerUrl));
  return { filename, execArgv: fromSource ? ['--import', registerTsx()] : [] };
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
