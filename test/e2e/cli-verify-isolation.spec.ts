import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UsageError, parseCommand } from '../../src/cli-commands.js';
import type { Env } from '../../src/foundation/config/env.js';
import { SigningKey } from '../../src/foundation/crypto/signing-key.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { TEST_NAMES } from '../../src/verify-record.js';
import type { IsolationReport } from '../../src/verify-report.js';
import { ADMIN, type TestApplication, startTestApplication } from '../setup/application.js';
import { SERVER, TEST_SECRET } from '../setup/database.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;
let model: ModelServer;
let folder: string;
/** Of the run that found nothing. */
let good: { path: string; report: IsolationReport; page: string };

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'enclave-test-'));
  // Answers of a chat model are kept, extractive ones are not.
  model = await startModelServer({ respond: () => 'The keeper does so [1].' });
  app = await startTestApplication({
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub-chat',
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub-embedding',
  });
  await app.createTenant('bystander');
  await app.addText('bystander', 'The bystander keeps a secret of its own.', { title: 'Secret' });
});
afterAll(async () => {
  await app?.close();
  await model?.close();
  rmSync(folder, { recursive: true });
});

/** As a process of its own would, and what it says. */
async function run(options: string[], env: Env = app.env, onNote: () => void = () => undefined) {
  const command = parseCommand(['verify-isolation', ...options]);
  const results: string[] = [];
  const notes: string[] = [];
  const output = {
    result: (line: string) => results.push(line),
    note: (line: string) => {
      notes.push(line);
      onNote();
    },
  };
  return { code: await command(env, output), results, notes: notes.join('\n') };
}

const against = (...options: string[]) => [`--url=${app.application.url}`, '--report', folder, ...options];

const superuser = (statement: string): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement)).rows,
  );

const remains = async () => ({
  tenants: (await app.admin.get('/tenants?search=isolation-check')).body.total,
  users: (await app.admin.get('/users?search=isolation-check')).body.total,
});

/** The only new file with this ending. */
function written(before: string[], ending: string): string {
  const [name, ...others] = readdirSync(folder).filter(
    file => file.endsWith(ending) && !before.includes(file),
  );
  expect(others).toEqual([]);
  return join(folder, name as string);
}

async function reported(options: string[], onNote?: () => void) {
  const before = readdirSync(folder);
  const outcome = await run(against(...options), app.env, onNote);
  const path = written(before, '.json');
  const report: IsolationReport = JSON.parse(readFileSync(path, 'utf8'));
  return { ...outcome, path, report, page: readFileSync(written(before, '.html'), 'utf8') };
}

describe('enclave verify-isolation', () => {
  it('finds that everything holds, and says so in a signed report', async () => {
    // The most requests are those with credentials, which are the same whatever the database.
    const tests = TEST_NAMES.filter(test => SERVER || test !== 'T3');
    const { code, results, notes, path, report, page } = await reported(
      SERVER ? [] : ['--only', tests.join()],
    );
    expect(report.content.tests.flatMap(({ failures }) => failures)).toEqual([]);
    expect(code).toBe(0);
    expect(report.content).toMatchObject({ held: true, partial: !SERVER, failure_count: 0, notes: [] });
    expect(report.content.tests.map(({ test }) => test)).toEqual(tests);
    const table = results.slice(0, results.indexOf(''));
    expect(table.map(line => line.trim().split(/\s{2,}/)[0])).toEqual(['cases', ...tests, 'all']);
    for (const { test, cases } of report.content.tests) expect(cases, test).toBeGreaterThan(20);
    // Every route whose path names something was asked, but for what would send an e-mail.
    const leftOut = report.content.tests.flatMap(({ left_out: sentences }) => sentences);
    const known = ['{invitation}', 'searched exactly'];
    expect(leftOut.filter(sentence => !known.some(part => sentence.includes(part)))).toEqual([]);
    expect(notes).toContain(path);
    expect(page).toContain(SERVER ? 'Tenants are kept apart.' : 'What was tried held.');
    expect(page).not.toMatch(/<script|https?:\/\/(?!127\.0\.0\.1)/);
    good = { path, report, page };
    // It is read-only for everybody else, and leaves nothing behind.
    expect(JSON.stringify(report) + page).not.toContain('bystander');
    expect(await remains()).toEqual({ tenants: 0, users: 0 });
  }, 300_000);

  it('has a signature that can be checked, with the settings or with a fingerprint', async () => {
    const { fingerprint } = SigningKey.of(TEST_SECRET);
    const checked = await run(['--check', good.path]);
    expect(checked.code).toBe(0);
    // No more than the report says.
    expect(checked.results[0]?.includes('everything held')).toBe(SERVER !== null);
    expect(checked.results[0]).toContain('left out');
    const nowhere = { ...app.env, encryptionKey: null, dataDir: join(folder, 'none') };
    expect((await run(['--check', good.path, '--key', fingerprint], nowhere)).code).toBe(0);
    expect((await run(['--check', good.path], nowhere)).code).toBe(2);
    // To check makes no key, either.
    expect(existsSync(nowhere.dataDir)).toBe(false);
    const another = await run(['--check', good.path], { ...app.env, encryptionKey: 'k'.repeat(40) });
    expect(another.code).toBe(1);
    expect(another.results[0]).toContain(`signed with the key ${fingerprint}`);
  });

  it.each([
    ['a verdict', (report: IsolationReport) => Object.assign(report.content, { held: false })],
    ['a count', (report: IsolationReport) => Object.assign(report.content, { cases: 1 })],
    ['a field that was added', (report: IsolationReport) => Object.assign(report.content, { note: 'x' })],
    [
      'a key',
      (report: IsolationReport) => {
        const key = SigningKey.of('another secret of somebody else, long enough');
        Object.assign(report.signature, { public_key: key.publicJwk, value: key.sign(report.content) });
      },
    ],
  ])('does not take a report in which somebody has changed %s', async (_, change) => {
    const report = structuredClone(good.report);
    change(report);
    const path = join(folder, 'tampered.txt');
    writeFileSync(path, JSON.stringify(report));
    expect((await run(['--check', path])).code).toBe(1);
  });

  it('names the table, and makes nothing, where the database lets too much through', async () => {
    await superuser('ALTER TABLE documents DISABLE ROW LEVEL SECURITY');
    await superuser('ALTER POLICY granted_access ON chunks TO postgres');
    try {
      const { code, path, report, results, page } = await reported(['--only', 't4,T5']);
      expect(code).toBe(1);
      expect(report.content).toMatchObject({ held: false, partial: true });
      const [surfaces, database] = report.content.tests;
      // To make two tenants, and to remove them, could touch those of others.
      expect(surfaces).toMatchObject({ test: 'T4', cases: 0, left_out: [expect.any(String)] });
      expect(new Set(database?.failures.map(({ where }) => where))).toEqual(new Set(['chunks', 'documents']));
      expect(results.join('\n')).toContain('The table documents has row-level security switched off.');
      expect(page).toContain('The table documents has row-level security switched off.');
      expect((await run(['--check', path])).code).toBe(0);
    } finally {
      await superuser('ALTER TABLE documents ENABLE ROW LEVEL SECURITY');
      await superuser('ALTER POLICY granted_access ON chunks TO enclave_tenant');
    }
    expect(await remains()).toEqual({ tenants: 0, users: 0 });
  }, 120_000);

  it('removes what an earlier run has left, once it is old enough, and nothing that only looks like it', async () => {
    const names = ['isolation-check-0123abcd-a', 'isolation-check-4567abcd-a', 'isolation-check-0123abcd-c'];
    for (const name of names)
      await app.admin.post('/tenants', { name, metadata: { isolation_check: '0123abcd' } });
    await app.admin.post('/tenants', { name: 'isolation-check-89abcdef-a' });
    const people = ['viewer-of-a.0123abcd@isolation-check.invalid', 'isolation-check@example.com'];
    for (const email of people) await app.admin.post('/users', { email, display_name: 'isolation-check' });
    await superuser(`UPDATE tenants SET created_at = now() - interval '2 hours' WHERE name <> '${names[1]}'`);
    await superuser(`UPDATE users SET created_at = now() - interval '2 hours'`);
    const { code, notes } = await reported(['--only=T5']);
    expect(code).toBe(0);
    expect(notes).toContain('Removed 2 tenant(s) and account(s)');
    const { items } = (await app.admin.get('/tenants?search=isolation-check&sort=name')).body;
    expect(items.map(({ name }: { name: string }) => name)).toEqual([
      names[2],
      names[1],
      'isolation-check-89abcdef-a',
    ]);
    const users = (await app.admin.get('/users?search=isolation-check')).body.items;
    expect(users.map(({ email }: { email: string }) => email)).toEqual([people[1]]);
  }, 120_000);

  it('reads the password once, and removes what it made with it', async () => {
    const password = join(folder, 'once.txt');
    writeFileSync(password, `${ADMIN.password}\n`);
    const before = await remains();
    // As a pipe is: read, and empty.
    const empty = () => writeFileSync(password, '');
    const { code, notes } = await reported(['--only=T7', '--password-file', password], empty);
    expect(readFileSync(password, 'utf8')).toBe('');
    expect(code, notes).toBe(0);
    expect(await remains()).toEqual(before);
  }, 120_000);

  it('says in a sentence why it cannot be tried', async () => {
    const password = join(folder, 'password.txt');
    writeFileSync(password, 'not the password of anybody\n');
    const wrong = await run(against('--password-file', password));
    expect(wrong).toMatchObject({ code: 2, results: [] });
    expect(wrong.notes).toContain(`does not let ${app.env.platformAdmin.email} sign in`);
    const other = await run(against(), { ...app.env, encryptionKey: 'k'.repeat(40) });
    expect(other.code).toBe(2);
    expect(other.notes).toContain("is not the server's");
    const nowhere = await run([`--url=${app.application.url}`, '--report', join(password, 'below')]);
    expect(nowhere).toMatchObject({ code: 2, results: [] });
    expect(nowhere.notes).toContain('The report cannot be written to');
    const silent = await run(['--url=http://127.0.0.1:1', '--report', folder]);
    expect(silent.code).toBe(2);
    expect(silent.notes).toContain('http://127.0.0.1:1 does not answer');
    expect(wrong.notes + other.notes + silent.notes).not.toContain(ADMIN.password);
    // Nobody but the platform's people may look.
    const { client } = await app.createUser();
    expect((await client.get('/platform/isolation')).status).toBe(403);
  });

  it.each([
    [['--only=T8'], '--only is one of T1 to T7'],
    [['--key=x'], '--key is for --check'],
    [['--url=ftp://x'], '--url is an http or https address'],
    [['--frobnicate'], 'frobnicate'],
  ])('refuses %j', (options, message) => {
    const parse = () => parseCommand(['verify-isolation', ...options]);
    expect(parse).toThrow(UsageError);
    expect(parse).toThrow(message);
  });

  it('refuses what is no report', async () => {
    const path = join(folder, 'none.txt');
    writeFileSync(path, '{"content": {}}');
    await expect(run(['--check', path])).rejects.toThrow(UsageError);
  });
});
