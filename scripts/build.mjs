// Builds dist/ when it is not what src/, migrations/ and the settings of the compiler would give. Without
// dependencies, since it also runs where only some of them are installed.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
export const DIST = join(ROOT, 'dist');

const INPUTS = ['src', 'migrations', 'package.json', 'nest-cli.json', 'tsconfig.json', 'tsconfig.build.json'];
const NEST = join(ROOT, 'node_modules/@nestjs/cli/bin/nest.js');
/** What the last whole build was made of; gone while one is under way. */
const STAMP = join(DIST, '.built-from');
const LOCK = join(DIST, '.building');
/** No build takes longer, in milliseconds: a lock that is older belongs to nobody, whoever has its process id now. */
const LONGEST_BUILD_MS = 5 * 60_000;

/** The compiler did not accept the sources; what it said has been printed. */
export class BuildError extends Error {
  /** @param {number} exitCode for the process that needed the build */
  constructor(exitCode) {
    super('The build failed.');
    this.exitCode = exitCode;
  }
}

/**
 * Brings dist/ up to date. Processes that start at the same time build once: the others wait for it.
 *
 * @returns {Promise<boolean>} whether dist/ is there; false where it could not be built, for want of a compiler or sources
 * @throws {BuildError}
 */
export async function build() {
  const buildable = existsSync(NEST) && existsSync(join(ROOT, 'src'));
  // An installation without devDependencies runs what was built for it.
  if (!buildable) return existsSync(join(DIST, 'src'));
  if (isUpToDate()) return true;
  mkdirSync(DIST, { recursive: true });
  await lock();
  try {
    if (!isUpToDate()) await compile();
  } finally {
    rmSync(LOCK, { force: true });
  }
  return true;
}

function isUpToDate() {
  return existsSync(STAMP) && readFileSync(STAMP, 'utf8') === fingerprint();
}

/** Names, sizes and times of all inputs: tells removed files and older versions too, which "newer than" would not. */
function fingerprint() {
  const entries = [];
  for (const input of INPUTS.map(name => join(ROOT, name)).filter(path => existsSync(path))) {
    const names = statSync(input).isDirectory() ? readdirSync(input, { recursive: true }) : [''];
    for (const path of names.map(name => join(input, name)).filter(isInput)) {
      const { size, mtimeMs } = statSync(path);
      entries.push(`${path}\0${size}\0${mtimeMs}`);
    }
  }
  return createHash('sha256').update(entries.toSorted().join('\n')).digest('hex');
}

function isInput(path) {
  return !path.endsWith('.spec.ts') && statSync(path).isFile();
}

async function compile() {
  process.stderr.write('Building …\n');
  // Taken before: what is edited while the compiler runs makes the next start build again.
  const inputs = fingerprint();
  rmSync(STAMP, { force: true });
  const compiler = spawn(process.execPath, [NEST, 'build'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  compiler.stdout.on('data', data => (output += data));
  compiler.stderr.on('data', data => (output += data));
  let stopped = 0;
  const stop = (_signal, number) => {
    stopped = 128 + number;
    compiler.kill();
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  const code = await new Promise((done, fail) => compiler.once('error', fail).once('close', done));
  process.off('SIGINT', stop).off('SIGTERM', stop);
  if (stopped) throw new BuildError(stopped);
  if (code !== 0) {
    process.stderr.write(process.stderr.isTTY ? output : stripVTControlCharacters(output));
    throw new BuildError(1);
  }
  writeFileSync(STAMP, inputs);
}

/** Holds LOCK, a file with the process id of whoever builds, once nobody else does. */
async function lock() {
  const own = String(process.pid);
  const draft = `${LOCK}.${own}`;
  writeFileSync(draft, own);
  try {
    for (;;) {
      if (link(draft, LOCK)) {
        // Two that found the same dead lock may both have removed it; the later one has removed ours.
        await sleep(20);
        if (readLock()?.owner === own) return;
      } else {
        const held = readLock();
        if (held && (!isAlive(Number(held.owner)) || held.age > LONGEST_BUILD_MS))
          rmSync(LOCK, { force: true });
        else await sleep(100);
      }
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Unlike creating and then writing a file, a link brings its content along in one step. */
function link(from, to) {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function readLock() {
  try {
    return { owner: readFileSync(LOCK, 'utf8'), age: Date.now() - statSync(LOCK).mtimeMs };
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It lives, and belongs to somebody else.
    return error.code === 'EPERM';
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await build();
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    process.exitCode = error.exitCode;
  }
}
