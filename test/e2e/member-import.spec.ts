import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import { auditOf } from '../setup/audit-entries.js';
import type { Answer, Client } from '../setup/client.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('club');
});
afterAll(() => app?.close());

const HEADER = 'username,email,full_name,role';

const bulk = (body: object, { client = app.admin, tenant = 'club' } = {}) =>
  client.post(`/tenants/${tenant}/members/bulk`, body);

/** Fields stand behind the file, as curl sends them that way. */
function importCsv(
  content: string | Uint8Array<ArrayBuffer>,
  fields: Record<string, string> = {},
  { client = app.admin, tenant = 'club' }: { client?: Client; tenant?: string } = {},
): Promise<Answer> {
  const form = new FormData();
  form.append('file', new Blob([content], { type: 'text/csv' }), 'users.csv');
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return client.post(`/tenants/${tenant}/members/import`, form);
}

const outcomes = (answer: Answer): string[] =>
  answer.body.rows.map((row: { outcome: string }) => row.outcome);
const errorCodes = (answer: Answer): string[] =>
  answer.body.errors.map((error: { path: string; code: string }) => `${error.path} ${error.code}`);
const total = async (query = '', tenant = 'club') =>
  (await app.admin.get(`/tenants/${tenant}/members?${query}`)).body.total as number;

async function finished(jobId: string): Promise<any> {
  for (let waited = 0; waited < 120_000; waited += 100) {
    const { body } = await expectStatus(200, app.admin.get(`/jobs/${jobId}`));
    if (!['queued', 'running'].includes(body.status)) return body;
    await sleep(100);
  }
  throw new Error('The import has not ended.');
}

describe('a list of people', () => {
  it('is added whole: new accounts, accounts that there are, and members as they were', async () => {
    const known = await app.createUser('known');
    const member = await app.createMember('club', 'admin');
    const answer = await bulk({
      users: [
        { username: 'dev1', email: 'Dev1@Example.com', full_name: 'Dev One', role: 'editor' },
        { email: known.email.toUpperCase(), role: 'viewer' },
        { email: member.email, role: 'viewer' },
        { email: 'dev+2@example.com', display_name: 'Dev Two', roles: ['viewer', 'editor'] },
      ],
      send_welcome_emails: true,
      generate_passwords: true,
    });
    expect(answer).toMatchObject({
      status: 200,
      body: {
        dry_run: false,
        summary: { total: 4, created: 2, added: 1, unchanged: 1, invalid: 0, skipped: 0 },
        rows: [
          { row: 1, email: 'dev1@example.com', outcome: 'created', user_id: expect.any(String) },
          { row: 2, email: 'known@example.com', outcome: 'added', user_id: known.id },
          { row: 3, email: member.email, outcome: 'unchanged' },
          { row: 4, email: 'dev+2@example.com', outcome: 'created' },
        ],
      },
    });
    const read = async (id: string) => (await app.admin.get(`/tenants/club/members/${id}`)).body;
    expect(await read(answer.body.rows[0].user_id)).toMatchObject({
      username: 'dev1',
      display_name: 'Dev One',
      roles: ['editor'],
      email_verified: false,
    });
    expect((await read(answer.body.rows[3].user_id)).roles).toEqual(['viewer', 'editor']);
    expect((await read(member.id)).roles).toEqual(['admin']);
    expect((await known.client.get('/tenants/club')).status).toBe(200);

    const mails = mailFolder(app.env.dataDir);
    const token = tokenIn(await mails.waitFor('dev1@example.com'));
    const password = 'a password of some length';
    expect(
      (await app.anonymous.post('/auth/reset-password', { token, new_password: password })).status,
    ).toBeLessThan(300);
    await signIn(app.anonymous, { email: 'dev1@example.com', password });
    const toKnown = await mails.waitFor('known@example.com');
    expect(() => tokenIn(toKnown)).toThrow(/no token/);

    const added = (await auditOf(app, 'club')).filter(entry => entry.details['import'] !== undefined);
    expect(added.map(({ action, details }) => [action, details['email'], details['roles']])).toEqual(
      expect.arrayContaining([
        ['member.added', 'dev1@example.com', ['editor']],
        ['member.added', 'known@example.com', ['viewer']],
        ['member.added', 'dev+2@example.com', ['viewer', 'editor']],
      ]),
    );
    expect(added).toHaveLength(3);
    const made = (await auditOf(app, null)).filter(entry => entry.details['import'] !== undefined);
    expect(made.map(({ action, details }) => [action, details['email']]).toSorted()).toEqual([
      ['user.created', 'dev+2@example.com'],
      ['user.created', 'dev1@example.com'],
    ]);
  });

  it('of which a row is wrong is refused whole, with what is wrong in each', async () => {
    const before = await total();
    const users = [
      { email: 'fine@example.com', role: 'viewer' },
      { email: 'fine@example.com', role: 'viewer' },
      { email: 'nobody', role: 'viewer' },
      { email: 'b@example.com', role: 'operator' },
      { email: 'c@example.com' },
      { username: 'DEV1', email: 'd@example.com', role: 'viewer' },
      { email: 'e@example.com', full_name: '=cmd|calc', role: 'viewer' },
      { email: 'f@ex\u0430mple.com', role: 'viewer' },
      { email: 'g@example.com', role: 'viewer', roles: ['viewer'] },
    ];
    const refused = await bulk({ users });
    expectProblem(refused, 422, 'validation_failed');
    expect(errorCodes(refused)).toEqual([
      'users.1.email repeated',
      'users.2.email invalid_format',
      'users.3.role unknown_role',
      'users.4.role required',
      'users.5.username username_taken',
      'users.6.full_name formula',
      'users.7.email invalid_format',
      'users.8.roles repeated',
    ]);
    expect(refused.body.summary).toMatchObject({ total: 9, created: 1, invalid: 8 });
    expect(await total()).toBe(before);

    const dry = await expectStatus(200, bulk({ users, dry_run: true }));
    expect(dry.body).toMatchObject({ dry_run: true, summary: { created: 1, invalid: 8 } });
    expect(await total()).toBe(before);

    const rest = await expectStatus(200, bulk({ users, on_error: 'skip' }));
    expect(outcomes(rest)).toEqual(['created', ...Array<string>(8).fill('invalid')]);
    expect(await total()).toBe(before + 1);
    expect(outcomes(await bulk({ users: users.slice(0, 1) }))).toEqual(['unchanged']);
  });

  it('gives nobody a role that is above those of whoever brings it', async () => {
    const admin = await app.createMember('club', 'admin');
    const users = [
      { email: 'boss@example.com', role: 'owner' },
      { email: 'other-boss@example.com', roles: ['viewer', 'owner'] },
      { email: 'root@example.com', role: 'platform_admin' },
    ];
    const refused = await bulk({ users }, { client: admin.client });
    expectProblem(refused, 422, 'validation_failed');
    expect(errorCodes(refused)).toEqual([
      'users.0.role role_above_own',
      'users.1.role role_above_own',
      'users.2.role unknown_role',
    ]);
    expect(outcomes(await bulk({ users, on_error: 'skip' }, { client: admin.client }))).toEqual(
      Array(3).fill('invalid'),
    );
    const viewer = await app.createMember('club', 'viewer');
    expectProblem(await bulk({ users }, { client: viewer.client }), 403, 'forbidden');
    expectProblem(await importCsv(HEADER, {}, { client: viewer.client }), 403, 'forbidden');
    expect(await total('search=boss')).toBe(0);
  });

  it('may be brought by two at once', async () => {
    const users = Array.from({ length: 50 }, (_, index) => ({
      email: `twin${index}@example.com`,
      role: 'viewer',
    }));
    const both = await Promise.all([
      bulk({ users }),
      bulk({ users: users.toReversed() }),
      bulk({ users: users.slice(10, 30) }),
    ]);
    expect(both.map(answer => answer.status)).toEqual([200, 200, 200]);
    const made = both.flatMap(outcomes).filter(outcome => outcome === 'created');
    expect(made).toHaveLength(50);
    expect(await total('search=twin')).toBe(50);
  });

  it('has rows of known fields, and at most 10,000', async () => {
    const fields = [
      {},
      { users: [] },
      { users: [{ email: 5, role: 'viewer' }] },
      { users: [{ email: 'x@example.com', role: 'viewer', password: 'a password of some length' }] },
      { users: [{ email: 'x@example.com', role: 'viewer' }], on_error: 'ignore' },
    ];
    for (const body of fields) expectProblem(await bulk(body), 422, 'validation_failed');
    const many = Array.from({ length: 10_001 }, (_, index) => ({
      email: `m${index}@example.com`,
      role: 'viewer',
    }));
    expectProblem(await bulk({ users: many, dry_run: true }), 413, 'too_many_rows');
  });
});

describe('a CSV file', () => {
  it('is imported as it comes out of a spreadsheet', async () => {
    const rows = [
      'alice.smith;alice@example.com;"Smith; Alice";editor',
      'bob.jones;bob@example.com;Bob Jones;viewer',
      'carol.wilson;carol@example.com;Carol Wilson;viewer',
    ];
    const content = `\ufeff${HEADER.replaceAll(',', ';')}\r\n${rows.join('\r\n')}\r\n`;
    const dry = await importCsv(content, { dry_run: 'true' });
    expect(dry).toMatchObject({ status: 200, body: { dry_run: true, summary: { created: 3 } } });
    expect(await total('search=alice')).toBe(0);
    const answer = await importCsv(content, { format: 'csv', send_notifications: 'true' });
    expect(answer).toMatchObject({
      status: 200,
      body: { rows: [{ row: 1, line: 2, outcome: 'created' }, { line: 3 }, { line: 4 }] },
    });
    expect((await app.admin.get('/tenants/club/members?search=alice')).body.items).toMatchObject([
      { username: 'alice.smith', display_name: 'Smith; Alice', roles: ['editor'] },
    ]);
    tokenIn(await mailFolder(app.env.dataDir).waitFor('carol@example.com'));
    expect(outcomes(await importCsv(content))).toEqual(['unchanged', 'unchanged', 'unchanged']);
  });

  it('with rows that are wrong is refused by line', async () => {
    const content = `${HEADER}\na,first@example.com,A,viewer\n\nb,First@example.com,B,viewer\nc,c@example.com,C\n`;
    const refused = await importCsv(content);
    expectProblem(refused, 422, 'validation_failed');
    expect(errorCodes(refused)).toEqual(['lines.4.email repeated', 'lines.5.row column_count']);
    expect(refused.body.errors[0].message).toContain('line 2');
    expect(outcomes(await importCsv(content, { on_error: 'skip' }))).toEqual([
      'created',
      'invalid',
      'invalid',
    ]);
  });

  it('that is none is refused', async () => {
    const attempts: Array<[string | Uint8Array<ArrayBuffer>, string]> = [
      ['', 'empty_file'],
      [`${HEADER}\na,a@example.com,"A,viewer\n`, 'broken_quotes'],
      [`${HEADER}\na,a@example.com,A"A",viewer\n`, 'broken_quotes'],
      [`${HEADER},salary\n`, 'unknown_column'],
      ['email\n', 'missing_column'],
      [Uint8Array.from([0xff, 0xfe, 0x65, 0x00]), 'not_utf8'],
      [`${HEADER}\na\0,a@example.com,A,viewer\n`, 'nul'],
    ];
    for (const [content, code] of attempts) {
      const answer = await importCsv(content);
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path: 'file', code }]);
    }
    expect((await importCsv(`${HEADER}\n`)).body).toMatchObject({ summary: { total: 0 } });
  });

  it('of 50,000 rows, or of any size, is refused without being read to its end', async () => {
    const row = (index: number) => `user${index},user${index}@example.com,A Person,viewer\n`;
    const rows = Array.from({ length: 50_000 }, (_, index) => row(index)).join('');
    expectProblem(await importCsv(`${HEADER}\n${rows}`), 413, 'too_many_rows');
    const wide = `${'x'.repeat(900)},a@example.com,A,viewer\n`.repeat(7_000);
    expectProblem(await importCsv(`${HEADER}\n${wide}`), 413, 'too_large');
    expect(await total('search=A Person')).toBe(0);
  });

  it('comes alone in a form that is whole, with fields that are known', async () => {
    const file = new Blob([`${HEADER}\n`]);
    const send = (fill: (form: FormData) => void) => {
      const form = new FormData();
      fill(form);
      return app.admin.post('/tenants/club/members/import', form);
    };
    expectProblem(await send(form => form.append('format', 'csv')), 422, 'validation_failed');
    expectProblem(
      await send(form => {
        form.append('file', file, 'a.csv');
        form.append('file', file, 'b.csv');
      }),
      413,
      'too_many_files',
    );
    expectProblem(await send(form => form.append('users', file, 'a.csv')), 422, 'validation_failed');
    for (const [name, value] of [
      ['format', 'xlsx'],
      ['dry_run', 'perhaps'],
      ['role', 'viewer'],
    ] as const) {
      expectProblem(await importCsv(`${HEADER}\n`, { [name]: value }), 422, 'validation_failed');
    }
    expectProblem(await app.admin.post('/tenants/club/members/import', {}), 415, 'unsupported_media_type');
    const broken = app.admin.withHeaders({ 'content-type': 'multipart/form-data; boundary=b' });
    expectProblem(
      await broken.post(
        '/tenants/club/members/import',
        `--b\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\n\r\n${HEADER}\na,a@exa`,
      ),
      400,
      'malformed_multipart',
    );
    const nameless = await broken.post(
      '/tenants/club/members/import',
      `--b\r\ncontent-disposition: form-data; filename="a.csv"\r\n\r\n${HEADER}\n\r\n--b--\r\n`,
    );
    expectProblem(nameless, 422, 'validation_failed');
    expect(nameless.body.errors).toEqual([{ path: '', code: 'unknown_field', message: expect.any(String) }]);
  });
});

describe('a long list', () => {
  const ROWS = 10_000;
  const users = (count: number, prefix: string) =>
    Array.from({ length: count }, (_, index) => ({
      username: `${prefix}${index}`,
      email: `${prefix}${index}@example.com`,
      full_name: `Person ${index}`,
      role: index % 2 === 0 ? 'viewer' : 'editor',
    }));

  it('becomes a job that says how far it is, and what became of each row', async () => {
    await app.createTenant('crowd');
    const lines = users(ROWS, 'crowd').map(user => Object.values(user).join(','));
    const started = Date.now();
    const answer = await importCsv(`${HEADER}\n${lines.join('\n')}\n`, {}, { tenant: 'crowd' });
    expect(answer).toMatchObject({
      status: 202,
      body: {
        job_id: answer.body.id,
        kind: 'member-import',
        status: expect.stringMatching(/queued|running/),
      },
    });
    const seen = new Set<number>();
    let job = answer.body;
    while (job.status === 'queued' || job.status === 'running') {
      await sleep(50);
      ({ body: job } = await expectStatus(200, app.admin.get(`/jobs/${answer.body.job_id}`)));
      seen.add(job.progress);
    }
    const seconds = (Date.now() - started) / 1000;
    expect(job).toMatchObject({
      status: 'succeeded',
      progress: 1,
      result: { dry_run: false, summary: { total: ROWS, created: ROWS, skipped: 0 } },
    });
    expect(job.result.rows).toHaveLength(ROWS);
    expect(job.result.rows[ROWS - 1]).toMatchObject({ row: ROWS, line: ROWS + 1, outcome: 'created' });
    expect([...seen].filter(progress => progress > 0 && progress < 1).length).toBeGreaterThan(2);
    expect(seconds).toBeLessThan(60);
    expect(await total('', 'crowd')).toBe(ROWS + 1);
    expect(await total('role=editor', 'crowd')).toBe(ROWS / 2);
    const entries = (await auditOf(app, 'crowd')).filter(entry => entry.details['import'] === job.id);
    expect(entries).toHaveLength(ROWS);

    // Another member may look at it who may do the same; nobody else.
    const admin = await app.createMember('crowd', 'admin');
    const viewer = await app.createMember('crowd', 'viewer');
    expect((await admin.client.get(`/jobs/${job.id}`)).status).toBe(200);
    expectProblem(await viewer.client.get(`/jobs/${job.id}`), 404, 'not_found');
  });

  it('is checked before anything of it is done', async () => {
    const list = users(2_000, 'checked');
    list[1_500] = { ...list[1_500]!, email: 'nobody' };
    const refused = await bulk({ users: list }, { tenant: 'crowd' });
    expectProblem(refused, 422, 'validation_failed');
    expect(errorCodes(refused)).toEqual(['users.1500.email invalid_format']);
    expect((await bulk({ users: list, dry_run: true }, { tenant: 'crowd' })).body.summary).toMatchObject({
      created: 1_999,
      invalid: 1,
    });
    expect(await total('search=checked', 'crowd')).toBe(0);
  });

  it('is done once when the process ends in the middle of it', async () => {
    const answer = await bulk({ users: users(3_000, 'twice') }, { tenant: 'crowd' });
    expect(answer.status).toBe(202);
    while ((await app.admin.get(`/jobs/${answer.body.job_id}`)).body.progress === 0) await sleep(10);
    await app.restart();
    const job = await finished(answer.body.job_id);
    expect(job).toMatchObject({ status: 'succeeded', result: { summary: { created: 3_000, unchanged: 0 } } });
    expect(await total('search=twice', 'crowd')).toBe(3_000);
    const entries = (await auditOf(app, 'crowd')).filter(entry => entry.details['import'] === job.id);
    expect(entries).toHaveLength(3_000);
  });

  it('stops giving what whoever brought it may no longer give', async () => {
    const admin = await app.createMember('crowd', 'admin');
    const answer = await bulk({ users: users(5_000, 'stopped') }, { client: admin.client, tenant: 'crowd' });
    expect(answer.status).toBe(202);
    await expectStatus(200, app.admin.patch(`/tenants/crowd/members/${admin.id}`, { status: 'suspended' }));
    const job = await finished(answer.body.job_id);
    const { created, skipped } = job.result.summary;
    expect(created + skipped).toBe(5_000);
    expect(skipped).toBeGreaterThan(0);
    expect(job.result.rows.at(-1)).toMatchObject({
      outcome: 'skipped',
      errors: [{ code: 'no_longer_allowed' }],
    });
    expect(await total('search=stopped', 'crowd')).toBe(created);
  });

  it('finds addresses and user names that were taken meanwhile', async () => {
    const list = users(4_000, 'raced');
    const answer = await bulk({ users: list }, { tenant: 'crowd' });
    const [address, name] = await Promise.all([
      app.admin.post('/tenants/club/members', { user: { email: 'raced3999@example.com' }, role: 'viewer' }),
      app.admin.post('/tenants/club/members', {
        user: { email: 'somebody@example.com', username: 'RACED3998' },
        role: 'viewer',
      }),
    ]);
    const { status, result } = await finished(answer.body.job_id);
    expect(status).toBe('succeeded');
    const outcomeOf = (row: number) => result.rows[row - 1];
    expect(outcomeOf(4_000).outcome).toBe(address.status === 201 ? 'added' : 'created');
    if (name.status === 201) {
      expect(outcomeOf(3_999)).toMatchObject({ outcome: 'skipped', errors: [{ code: 'username_taken' }] });
    }
  });
});

it('the list of members is the same from either end, page by page', async () => {
  const pages = async (sort: string) => {
    const emails: string[] = [];
    const count = Math.ceil((await total()) / 7);
    for (let page = 1; page <= count + 1; page++) {
      const { body } = await expectStatus(
        200,
        app.admin.get(`/tenants/club/members?page_size=7&page=${page}&sort=${sort}`),
      );
      emails.push(...body.items.map((item: { email: string }) => item.email));
    }
    return emails;
  };
  for (const sort of ['joined_at', 'email']) {
    const upwards = await pages(sort);
    expect(new Set(upwards).size).toBe(await total());
    expect(await pages(`-${sort}`)).toEqual(upwards.toReversed());
  }
});
