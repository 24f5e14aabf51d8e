import { Presets, SingleBar } from 'cli-progress';
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import {
  type Command,
  INTERRUPTED,
  type Output,
  UsageError,
  interruption,
  printable,
  withApplication,
} from './cli-command.js';
import { type ChosenServer, SERVER_OPTIONS, serverOf } from './cli-server.js';
import { type FolderContent, globMatcher, listFolder } from './ingest-files.js';
import { type Destination, IngestHere } from './ingest-here.js';
import { IngestOverHttp } from './ingest-over-http.js';
import { type IngestCounts, IngestRun, type IngestTarget } from './ingest-run.js';

export const INGEST_USAGE = `  ingest DIR          Brings the files of a folder into a knowledge base, and waits until they are ready. Run again, it
                      goes on where it ended: unchanged files are skipped, failed ones tried again, changed ones
                      become new versions. Ends with 0 where all are ready, with 1 where some are not.
    --tenant TENANT           id or name
    --kb KB                   id or slug
    --create-kb               makes the knowledge base where it is missing
    --include GLOB            only files whose path below DIR matches; may be given several times
    --metadata JSON           an object, for every file
    --concurrency N           files that are sent at a time, 1 to 32 [4]
    --url URL                 a running server; where it is missing, this process opens the database itself
    --token TOKEN             for that server, with kb:read, document:create, document:read, and document:update for
                              changed files; a file costs one of its requests a minute
    --token-file FILE         the same, out of a file: what is typed, others on this machine can see
`;

/** Milliseconds between two lines where no bar can be drawn. */
const LINE_EVERY_MS = 5_000;

interface IngestSettings {
  folder: string;
  destination: Destination;
  wanted: (path: string) => boolean;
  concurrency: number;
  /** Null: this process opens the database. */
  server: ChosenServer | null;
}

/** @throws UsageError */
export function ingest(args: string[]): Command {
  const settings = settingsOf(args);
  return async (env, output) => {
    const content = await listFolder(settings.folder, settings.wanted);
    const interrupted = interruption(output);
    const { signal } = interrupted;
    try {
      if (settings.server) {
        const endpoint = { ...settings.server, signal };
        const target = await IngestOverHttp.open(endpoint, settings.destination, {
          files: content.files.length,
        });
        return await bring(target, content, settings, signal, output);
      }
      return await withApplication(
        env,
        output,
        async nest =>
          bring(await IngestHere.open(nest, settings.destination), content, settings, signal, output),
        { http: false, jobs: true },
      );
    } catch (error) {
      if (!signal.aborted) throw error;
      return INTERRUPTED;
    } finally {
      interrupted.end();
    }
  };
}

async function bring(
  target: IngestTarget,
  { files, links }: FolderContent,
  { concurrency }: IngestSettings,
  signal: AbortSignal,
  output: Output,
): Promise<number> {
  if (links > 0) output.note(`Left out: ${links} symbolic link${links === 1 ? '' : 's'}.`);
  const progress = output.terminal ? bar(output.terminal, files.length) : lines(output);
  const run = new IngestRun(target, files, { concurrency, signal, onChange: progress.show });
  let counts: IngestCounts;
  try {
    counts = await run.run();
  } finally {
    progress.end();
  }
  report(counts, run, output);
  if (signal.aborted) {
    output.note('Stopped. What was taken stays; run the same command again to go on.');
    return INTERRUPTED;
  }
  return run.failed.length > 0 ? 1 : 0;
}

function report(counts: IngestCounts, { failed }: IngestRun, output: Output): void {
  const { total, ready, unchanged, waiting } = counts;
  const left = total - ready - unchanged - failed.length - waiting;
  const rows: Array<[string, number]> = [
    ['files', total],
    ['ready', ready],
    ['unchanged', unchanged],
    ['failed', failed.length],
  ];
  if (waiting > 0) rows.push(['waiting', waiting]);
  if (left > 0) rows.push(['not sent', left]);
  for (const [what, count] of rows) output.result(`${what.padEnd(10)}${String(count).padStart(8)}`);
  for (const { sourceId, code, message } of failed) {
    output.result(`failed: ${printable(sourceId)}: ${code}: ${printable(message)}`);
  }
}

interface Progress {
  show(this: void, counts: IngestCounts): void;
  end(): void;
}

function bar(terminal: NodeJS.WriteStream, total: number): Progress {
  const drawn = new SingleBar(
    {
      stream: terminal,
      format:
        '{bar} {value}/{total} · {ready} ready, {unchanged} unchanged, {failed} failed, {waiting} waiting',
      hideCursor: true,
      clearOnComplete: false,
      // Ctrl-C is for the command, which ends cleanly.
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  drawn.start(total, 0, { ready: 0, unchanged: 0, failed: 0, waiting: 0 });
  return {
    show: counts => drawn.update(endedOf(counts), counts),
    end: () => drawn.stop(),
  };
}

function lines(output: Output): Progress {
  let last = Date.now();
  return {
    show: counts => {
      if (Date.now() - last < LINE_EVERY_MS) return;
      last = Date.now();
      const { total, ready, unchanged, failed, waiting } = counts;
      output.note(
        `${endedOf(counts)} of ${total}: ${ready} ready, ${unchanged} unchanged, ${failed} failed, ${waiting} waiting`,
      );
    },
    end: () => undefined,
  };
}

const endedOf = ({ ready, unchanged, failed }: IngestCounts): number => ready + unchanged + failed;

function settingsOf(args: string[]): IngestSettings {
  const { values, positionals } = parseOptions(args);
  const [folder] = positionals;
  if (folder === undefined || positionals.length > 1) throw new UsageError('ingest takes one folder.');
  if (values.tenant === undefined || values.kb === undefined)
    throw new UsageError('ingest needs --tenant and --kb.');
  const patterns = (values.include ?? []).map(globMatcher);
  return {
    folder: folderOf(folder),
    destination: {
      tenant: values.tenant,
      kb: values.kb,
      createKb: values['create-kb'] ?? false,
      metadata: metadataOf(values.metadata),
    },
    wanted: path => patterns.length === 0 || patterns.some(matches => matches(path)),
    concurrency: concurrencyOf(values.concurrency),
    server: serverOf(values),
  };
}

function folderOf(path: string): string {
  const folder = resolve(path);
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found?.isDirectory()) throw new UsageError(`There is no folder ${path}.`);
  return folder;
}

function metadataOf(json: string | undefined): Record<string, unknown> | null {
  if (json === undefined) return null;
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // The same as what is JSON and no object.
  }
  throw new UsageError('--metadata is a JSON object.');
}

function concurrencyOf(text = '4'): number {
  const number = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > 32) throw new UsageError('--concurrency is a whole number from 1 to 32.');
  return number;
}

const text = { type: 'string' } as const;

function parseOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        tenant: text,
        kb: text,
        'create-kb': { type: 'boolean' },
        include: { type: 'string', multiple: true },
        metadata: text,
        concurrency: text,
        ...SERVER_OPTIONS,
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
