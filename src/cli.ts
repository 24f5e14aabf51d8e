import { parseCommand, USAGE, UsageError } from './cli-commands.js';
import { JobError } from './core/jobs/background-jobs.service.js';
import { loadEnvFile, parseEnv, SettingsError } from './foundation/config/env.js';
import { DataFolderInUseError } from './foundation/database/data-folder-lock.js';
import { Problem } from './foundation/http/problem.js';

try {
  const command = parseCommand(process.argv.slice(2));
  loadEnvFile();
  const code = await command(parseEnv(process.env), {
    result: line => process.stdout.write(`${line}\n`),
    note: line => process.stderr.write(`${line}\n`),
    terminal: process.stdout.isTTY && process.stderr.isTTY ? process.stderr : undefined,
  });
  process.exit(code);
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  // Of the command that gates others, 1 says that something did not hold.
  const couldNotRun = error instanceof UsageError || process.argv[2] === 'verify-isolation';
  process.exit(couldNotRun ? 2 : 1);
}

/** A sentence where somebody has to do something else, the whole error where we have to mend the code. */
function explain(error: unknown): string {
  if (error instanceof UsageError) return `${error.message}\n\n${USAGE}`;
  const sentences = [SettingsError, DataFolderInUseError, JobError];
  if (sentences.some(type => error instanceof type)) return (error as Error).message;
  if (error instanceof Problem) {
    const fields = error.options.errors?.map(({ path, message }) => `  ${path}: ${message}`) ?? [];
    return [error.detail, ...fields].join('\n');
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
