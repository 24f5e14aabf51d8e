import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { DIST } from '../build.mjs';
import { DemoError } from './api.mjs';

const LONGEST_START_MS = 90_000;

/** A server with the embedded database, in a child process on a temporary folder. */
export class EmbeddedServer {
  folder = mkdtempSync(join(tmpdir(), 'enclave-demo-'));
  admin = { email: 'admin@enclave.local', password: randomBytes(12).toString('base64url') };
  #child = null;
  #port = 0;

  /** @returns {Promise<string>} its address */
  async start() {
    const { settingNames } = await import(pathToFileURL(join(DIST, 'src/foundation/config/env.js')).href);
    const environment = Object.entries(process.env).filter(([name]) => !settingNames.includes(name));
    this.#child = spawn(process.execPath, [join(DIST, 'src/main.js')], {
      // Away from the .env of the project: the demo must not touch the database that it names.
      cwd: this.folder,
      env: {
        ...Object.fromEntries(environment),
        PORT: String(this.#port),
        DATA_DIR: this.folder,
        PLATFORM_ADMIN_EMAIL: this.admin.email,
        PLATFORM_ADMIN_PASSWORD: this.admin.password,
        LOG_LEVEL: 'warn',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const url = await this.#address();
    // The same again after a restart.
    this.#port = Number(new URL(url).port);
    return url;
  }

  /** Ends the process; the folder stays. */
  async stop() {
    const child = this.#child;
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise(done => child.once('exit', done));
    child.kill('SIGTERM');
    await ended;
  }

  /** Resolves when the process has ended. */
  ended() {
    return new Promise(done => this.#child.once('exit', done));
  }

  async remove() {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #address() {
    const child = this.#child;
    let output = '';
    return new Promise((done, fail) => {
      const timer = setTimeout(
        () => fail(new DemoError(`The server is not ready after 90 s.\n${output}`)),
        LONGEST_START_MS,
      );
      const onData = data => {
        output = (output + data).slice(-4000);
        const url = /^ *API +(http\S+)\/api\/v1$/m.exec(output)?.[1];
        if (url) done(url);
      };
      child.stdout.on('data', onData);
      child.stderr.on('data', onData);
      child.once('exit', () => fail(new DemoError(`The server ended by itself.\n${output}`)));
      child.once('error', fail);
      child.once('exit', () => clearTimeout(timer));
      timer.unref();
    });
  }
}
