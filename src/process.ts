import type { ProcessRole } from './app.module.js';
import { type Application, startApplication } from './application.js';
import { type Env, SettingsError, loadEnvFile, parseEnv } from './foundation/config/env.js';
import { IsolationError } from './foundation/database/catalogue-check.js';
import { DataFolderInUseError } from './foundation/database/data-folder-lock.js';

/** A shutdown that takes longer is cut short, in milliseconds. */
const LONGEST_SHUTDOWN_MS = 25_000;

/** Runs one process from its start to a signal. */
export async function run(roleOf: (env: Env) => ProcessRole): Promise<void> {
  try {
    loadEnvFile();
    const env = parseEnv(process.env);
    const role = roleOf(env);
    const application = await startApplication(env, role);
    shutDownOnSignal(application);
    process.stdout.write(greeting(env, application));
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exit(1);
  }
}

function shutDownOnSignal(application: Application): void {
  let closing = false;
  const onSignal = () => {
    // A second signal means now.
    if (closing) process.exit(1);
    closing = true;
    setTimeout(() => process.exit(1), LONGEST_SHUTDOWN_MS).unref();
    application.close().then(
      () => process.exit(0),
      error => {
        process.stderr.write(`${explain(error)}\n`);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
}

/** A sentence where somebody has to mend a setting, the whole error where we have to mend the code. */
function explain(error: unknown): string {
  if (
    error instanceof SettingsError ||
    error instanceof DataFolderInUseError ||
    error instanceof IsolationError
  ) {
    return `Enclave does not start:\n${error.message}`;
  }
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return 'Enclave does not start:\nThe port is in use. Choose another with PORT.';
  if (code === 'ECONNREFUSED') return `Enclave does not start:\nThe database does not answer: ${message}`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function greeting(env: Env, { url, adminPassword }: Application): string {
  if (!url) return 'Enclave works on jobs.\n';
  const { email, password } = env.platformAdmin;
  const how = adminPassword
    ? `password  ${adminPassword}   (made up just now, and shown only this once)`
    : `password  ${password ? 'as set in PLATFORM_ADMIN_PASSWORD' : 'as shown at the first start'}`;
  return [
    '',
    `  Enclave is ready.`,
    '',
    `  API       ${url}/api/v1`,
    `  Docs      ${url}/docs`,
    '',
    `  Platform admin`,
    `  e-mail    ${email}`,
    `  ${how}`,
    '',
    '',
  ].join('\n');
}
