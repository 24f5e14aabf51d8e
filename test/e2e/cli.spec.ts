import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseCommand, UsageError } from '../../src/cli-commands.js';
import { type Env, parseEnv } from '../../src/foundation/config/env.js';
import { SealedBox } from '../../src/foundation/crypto/sealed-box.js';
import { DataFolderInUseError } from '../../src/foundation/database/data-folder-lock.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { Problem } from '../../src/foundation/http/problem.js';
import { LocalStorage } from '../../src/foundation/storage/local-storage.js';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import { SERVER, TEST_SECRET } from '../setup/database.js';
import { asSuperuser } from '../setup/superuser.js';

const NEW_KEY = 'another secret that only the tests know, of enough characters';

let app: TestApplication;

beforeAll(async () => {
  // E-mails wait: what they say stands sealed in the queue.
  app = await startTestApplication({}, { http: true, jobs: false });
});
afterAll(() => app?.close());

/** Runs a command as a process of its own would, with the server stopped where that is needed. */
async function run(args: string[], env: Env = app.env) {
  const command = parseCommand(args);
  await app.application.close();
  const results: string[] = [];
  const notes: string[] = [];
  const code = await command(env, { result: line => results.push(line), note: line => notes.push(line) });
  return { code, results, notes: notes.join('\n') };
}

describe('tenant create', () => {
  it('prints the id, and for a new admin a way in', async () => {
    const { code, results, notes } = await run([
      'tenant',
      'create',
      '--name=development',
      '--display-name=Development Team',
      '--plan-tier=pro',
      '--admin-email=dev-admin@example.com',
      '--admin-name=Dev Admin',
    ]);
    expect(code).toBe(0);
    expect(results).toEqual([expect.stringMatching(/^[0-9a-f-]{36}$/)]);
    const token = /#token=([\w-]{43})/.exec(notes)?.[1];
    await app.restart();
    expect((await app.admin.get('/tenants/development')).body).toMatchObject({
      id: results[0],
      display_name: 'Development Team',
      plan_tier: 'pro',
      created_by: null,
      member_count: 1,
    });
    const new_password = 'a password of my own';
    await expectStatus(204, app.anonymous.post('/auth/reset-password', { token, new_password }));
    const client = await signIn(app.anonymous, { email: 'dev-admin@example.com', password: new_password });
    expect((await client.get('/tenants/development/members')).body.items).toMatchObject([
      { roles: ['owner'] },
    ]);
  });

  it('makes tenants from templates, for an admin who is there already', async () => {
    await expectStatus(
      201,
      app.admin.post('/tenant-templates', {
        name: 'department_template',
        type: 'department',
        settings: { notification_email: '${TENANT_ADMIN_EMAIL}', floor: '${FLOOR}' },
      }),
    );
    const { notes } = await run([
      'tenant',
      'create',
      '--from-template=department_template',
      '--name=hr_team',
      '--display-name=Human Resources',
      '--placeholder=FLOOR=3=third',
    ]);
    expect(notes).not.toContain('token');
    await app.restart();
    expect((await app.admin.get('/tenants/hr_team')).body).toMatchObject({
      type: 'department',
      settings: { notification_email: 'admin@enclave.test', floor: '3=third' },
    });
  });

  it.each([
    [['--name', 'Größe'], 'name'],
    [['--name', 'development'], null],
    [['--name', 'x', '--plan-tier', 'gold'], 'plan_tier'],
    [['--name', 'x', '--from-template', 'no_such_template'], 'template'],
    [['--name', 'x', '--admin-email', 'nobody'], 'admin_user.email'],
  ])('says what is wrong with %j', async (options, path) => {
    const error = await run(['tenant', 'create', ...options]).catch((fault: unknown) => fault);
    expect(error).toBeInstanceOf(Problem);
    if (path) expect((error as Problem).options.errors).toMatchObject([{ path }]);
    else expect((error as Problem).code).toBe('name_taken');
  });

  it.each([
    '',
    'help',
    'migrate now',
    'tenant',
    'tenant delete',
    'tenant create',
    'tenant create --name',
    'tenant create --name x --colour red',
    'tenant create --name x --placeholder FLOOR',
    'tenant create x',
    'storage',
    'storage sweep --older-than-minutes soon',
  ])('is refused where it is no command: "%s"', line => {
    expect(() => parseCommand(line === '' ? [] : line.split(' '))).toThrow(UsageError);
  });

  it.skipIf(SERVER)('needs the embedded database for itself', async () => {
    await app.restart();
    const command = parseCommand(['rotate-keys']);
    const nowhere = { result: () => undefined, note: () => undefined };
    await expect(command(app.env, nowhere)).rejects.toBeInstanceOf(DataFolderInUseError);
  });
});

describe('rotate-keys', () => {
  const sealedValues = () => {
    const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    return asSuperuser(app.env, dataSource, async client => {
      const { rows } = await client.query<{ sealed: Buffer; context: string }>(
        `SELECT sealed, tenant_id || '/' || name AS context FROM tenant_variables
         UNION ALL SELECT payload, id::text FROM jobs WHERE payload IS NOT NULL`,
      );
      return rows;
    });
  };
  const withKeys = (current: string, old: string): Env => ({
    ...app.env,
    encryptionKey: current,
    oldEncryptionKeys: old === '' ? [] : [old],
  });

  it('seals everything anew, so that the old key can go', async () => {
    await app.restart();
    for (const tenant of ['development', 'hr_team']) {
      await expectStatus(
        200,
        app.admin.put(`/tenants/${tenant}/variables/API_KEY`, { value: `key of ${tenant}` }),
      );
    }
    await expectStatus(200, app.admin.put('/tenants/hr_team/variables/OTHER', { value: 'other' }));
    const before = await sealedValues();
    const jobs = before.length - 3;
    expect(jobs).toBeGreaterThan(0);

    const rotated = await run(['rotate-keys'], withKeys(NEW_KEY, TEST_SECRET));
    expect(rotated).toMatchObject({
      code: 0,
      results: [
        `Sealed anew: variables 3, payloads of jobs ${jobs}, keys of models 0, secrets of webhooks 0.`,
      ],
      notes: expect.stringContaining('ENCRYPTION_OLD_KEYS is not needed any more'),
    });
    const again = await run(['rotate-keys'], withKeys(NEW_KEY, TEST_SECRET));
    expect(again.results).toEqual([
      'Sealed anew: variables 0, payloads of jobs 0, keys of models 0, secrets of webhooks 0.',
    ]);

    await app.restart({ ENCRYPTION_KEY: NEW_KEY });
    const box = new SealedBox([NEW_KEY]);
    const after = await sealedValues();
    expect(after).toHaveLength(before.length);
    const opened = after.map(({ sealed, context }) => box.open(sealed, context));
    expect(opened).toEqual(expect.arrayContaining(['key of development', 'key of hr_team', 'other']));
  });

  it('names what no key opens', async () => {
    const { code, results, notes } = await run(['rotate-keys'], withKeys(TEST_SECRET, ''));
    expect(code).toBe(1);
    expect(results[0]).toMatch(
      /^Sealed anew: variables 0, payloads of jobs 0, keys of models 0, secrets of webhooks 0\.$/,
    );
    expect(notes).toContain('No key of the settings opens the variable API_KEY of the tenant hr_team.');
    expect(notes).not.toContain('key of hr_team');
    expect(notes).not.toContain('not needed');
  });
});

it('storage sweep deletes what belongs to no document, as young as is said', async () => {
  const storage = new LocalStorage(app.env.dataDir);
  const file = await storage.receive(Readable.from([Buffer.from('nobody knows of this')]));
  const key = `${randomUUID()}/${randomUUID()}/${file.sha256}-${randomUUID()}`;
  await file.keep(key);
  const missing = 'Originals that are missing: 0.';
  expect(await run(['storage', 'sweep'])).toMatchObject({
    code: 0,
    results: ['Files: checked 1, deleted 0 (0 bytes).', missing],
  });
  const { results } = await run(['storage', 'sweep', '--older-than-minutes=0']);
  expect(results).toEqual(['Files: checked 1, deleted 1 (20 bytes).', missing]);
  expect(await storage.has(key)).toBe(false);
});

it('migrate says that there is nothing to do', async () => {
  const { code, results } = await run(['migrate'], parseEnv({ ...settingsOf(app.env) }));
  expect(code).toBe(0);
  expect(results).toEqual(['The database is up to date.']);
});

/** The settings that migrations need. */
function settingsOf(env: Env): Record<string, string> {
  return {
    DATA_DIR: env.dataDir,
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    ...(env.database.mode === 'server' && { DATABASE_ADMIN_URL: env.database.adminUrl as string }),
  };
}
