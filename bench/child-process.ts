import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = join(import.meta.dirname, '..');
const POLL_MS = 10;

/** A server in a process of its own. */
export interface ServerProcess {
  /** The address that it printed. */
  url: string;
  /** Milliseconds from its start until it printed its address. */
  readyAfter: number;
  /** CPU time of all its threads so far, in milliseconds, and its resident memory, in bytes. */
  usage(): Promise<{ cpu: number; rss: number }>;
  pid: number;
  /** Everything that it has printed so far. */
  output(): string;
  /** Whether it has ended, of itself or not. */
  hasEnded(): boolean;
  /** Ends it as a power cut would. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Starts `script`, compiled or TypeScript, and waits until it has printed the address that it listens on, or whatever
 * else `ready` finds.
 */
export async function startServer(
  script: string,
  settings: Record<string, string>,
  { timeout = 60_000, execArgv = [] as string[], ready = /https?:\/\/[\d.]+:\d+/ } = {},
): Promise<ServerProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'enclave-bench-'));
  const output = join(folder, 'output');
  // Into a file: logs read by this process would cost the clients time.
  const file = openSync(output, 'a');
  const typescript = script.endsWith('.ts') ? ['--import', import.meta.resolve('tsx')] : [];
  const reporter = ['--import', join(import.meta.dirname, 'usage-reporter.mjs')];
  const started = performance.now();
  const child = spawn(process.execPath, [...typescript, ...reporter, ...execArgv, join(ROOT, script)], {
    // Nothing of this shell's settings may reach the measured process.
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], TMPDIR: process.env['TMPDIR'], ...settings },
    // Where no .env lies.
    cwd: folder,
    stdio: ['ignore', file, file, 'ipc'],
  });
  closeSync(file);
  const stop = async () => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  for (;;) {
    const url = ready.exec(readFileSync(output, 'utf8'))?.[0];
    const readyAfter = performance.now() - started;
    if (url) {
      return {
        url,
        readyAfter,
        usage: () => askUsage(child),
        pid: child.pid as number,
        output: () => readFileSync(output, 'utf8'),
        hasEnded: () => hasEnded(child),
        kill: async () => {
          await end(child, 'SIGKILL');
          rmSync(folder, { recursive: true, force: true });
        },
        stop,
      };
    }
    if (child.exitCode !== null || readyAfter > timeout) {
      const said = readFileSync(output, 'utf8');
      await stop();
      throw new Error(`${script} has not started:\n${said}`);
    }
    await sleep(POLL_MS);
  }
}

async function askUsage(child: ChildProcess): Promise<{ cpu: number; rss: number }> {
  const answered = once(child, 'message');
  child.send('usage');
  const [{ cpu, rss }] = (await answered) as [{ cpu: NodeJS.CpuUsage; rss: number }];
  return { cpu: (cpu.user + cpu.system) / 1000, rss };
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (hasEnded(child)) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}
