import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Installation, withClient } from './installation.js';

/** What may be killed. */
export interface Victim {
  name: string;
  kill(): Promise<void>;
  start(): Promise<void>;
}

export const endSessions = (adminUrl: string): Promise<void> =>
  withClient(adminUrl, async client => {
    await client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid()`,
    );
  });

/** By itself, or by a signal. */
const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/**
 * A PostgreSQL that may be killed, where FAULTS_POSTGRES_RUN and FAULTS_POSTGRES_URL name one; else that of
 * DATABASE_ADMIN_URL, whose sessions are ended.
 */
export async function startPostgres() {
  const url = process.env['FAULTS_POSTGRES_URL'];
  const command = process.env['FAULTS_POSTGRES_RUN'];
  if (!url || !command) {
    return {
      url: process.env['DATABASE_ADMIN_URL'] as string,
      isOwn: false,
      victimIn: ({ adminUrl }: Installation): Victim => ({
        name: 'sessions of PostgreSQL',
        kill: () => endSessions(adminUrl as string),
        start: () => Promise.resolve(),
      }),
      stop: () => Promise.resolve(),
    };
  }
  let child: ChildProcess | null = null;
  const start = async () => {
    for (const until = performance.now() + 60_000; ;) {
      // Sessions of the one before may not have noticed yet that it is gone: until they have, it does not start.
      if (!child || hasEnded(child)) child = spawn('sh', ['-c', command], { stdio: 'ignore' });
      const answers = await withClient(url, client => client.query('SELECT 1')).then(
        () => true,
        () => false,
      );
      if (answers) return;
      if (performance.now() > until) throw new Error('PostgreSQL has not started in 60 s.');
      await sleep(100);
    }
  };
  const end = async (signal: NodeJS.Signals) => {
    if (child && !hasEnded(child)) {
      const ended = once(child, 'exit');
      child.kill(signal);
      await ended;
    }
    child = null;
  };
  try {
    await start();
  } catch (error) {
    await end('SIGKILL');
    throw error;
  }
  return {
    url,
    isOwn: true,
    victimIn: (): Victim => ({ name: 'PostgreSQL', kill: () => end('SIGKILL'), start }),
    stop: () => end('SIGINT'),
  };
}
