import type { INestApplicationContext } from '@nestjs/common';
import type { ProcessRole } from './app.module.js';
import { startApplication } from './application.js';
import type { Env } from './foundation/config/env.js';

/** What was typed is no command. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Where a command says what: results, and everything else. */
export interface Output {
  result(line: string): void;
  note(line: string): void;
  /** Where something may be drawn, and drawn over; missing where nobody watches. */
  terminal?: NodeJS.WriteStream | undefined;
}

/** @returns the exit code */
export type Command = (env: Env, output: Output) => Promise<number>;

/** Runs `work` in an application that answers no requests and, unless `role` says otherwise, works on no jobs. */
export async function withApplication(
  env: Env,
  output: Output,
  work: (nest: INestApplicationContext) => Promise<number>,
  role: ProcessRole = { http: false, jobs: false },
): Promise<number> {
  // The log goes where results go: what is no fault would stand between them.
  const logLevel = ['debug', 'info', 'trace'].includes(env.logLevel) ? 'warn' : env.logLevel;
  const application = await startApplication({ ...env, logLevel }, role);
  try {
    if (application.adminPassword) {
      output.note(`Platform admin: ${env.platformAdmin.email}, password ${application.adminPassword}`);
      output.note('The password was made up just now, and is shown only this once.');
    }
    return await work(application.nest);
  } finally {
    await application.close();
  }
}

/** Of a process that was ended with Ctrl-C. */
export const INTERRUPTED = 130;

/** Ends the run at the first Ctrl-C; at the second, the process. */
export function interruption(output: Output): { signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    output.note('Stopping …');
    controller.abort();
  };
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const name of signals) process.on(name, onSignal);
  return {
    signal: controller.signal,
    end: () => {
      for (const name of signals) process.off(name, onSignal);
    },
  };
}

/** Names of files, and of other things that somebody has named, may hold what moves the cursor. */
export const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}]/gu, '\uFFFD');
