import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AuditEntry, hashOf } from '../../src/core/audit/audit-entry.js';
import { PLATFORM_ROLE } from '../../src/foundation/database/roles.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

type Person = Awaited<ReturnType<TestApplication['createMember']>>;

let app: TestApplication;
let tenantId: string;
let owner: Person;
let viewer: Person;
let stranger: Awaited<ReturnType<TestApplication['createUser']>>;

beforeAll(async () => {
  app = await startTestApplication();
  tenantId = (await app.createTenant('acme')).id;
  owner = await app.createMember('acme', 'owner');
  viewer = await app.createMember('acme', 'viewer');
  stranger = await app.createUser();
  for (let n = 1; n <= 30; n++)
    await expectStatus(201, owner.client.post('/tenants/acme/kbs', { name: `Kb number ${n}` }));
});
afterAll(() => app?.close());

const superuser = (...statements: string[]): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => {
      let rows: any[] = [];
      for (const statement of statements) rows = (await client.query(statement)).rows;
      return rows;
    },
  );

async function list(query = '', path = '/tenants/acme/audit', client: Client = owner.client): Promise<any> {
  return (await expectStatus(200, client.get(`${path}${query}`))).body;
}

const newest = async (path?: string, client?: Client): Promise<AuditEntry> =>
  (await list('?page_size=1', path, client)).items[0];
const sequencesOf = ({ items }: { items: AuditEntry[] }) => items.map(({ sequence }) => sequence);

describe('the audit of a tenant', () => {
  it('shows who did what, the newest first', async () => {
    const entry = await newest();
    expect(entry).toEqual({
      sequence: expect.any(Number),
      tenant_id: tenantId,
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      actor: { type: 'user', id: owner.id, name: owner.email },
      action: expect.stringMatching(/^(kb|knowledge_base)\.created$/),
      resource: { type: expect.any(String), id: expect.any(String) },
      details: expect.any(Object),
      outcome: 'allowed',
      ip: '127.0.0.1',
      request_id: expect.any(String),
      prev_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(hashOf(entry)).toBe(entry.hash);
    const { items, total } = await list('?page_size=100');
    expect(sequencesOf({ items })).toEqual(Array.from({ length: total }, (_, index) => total - index));
    for (const [index, item] of items.slice(0, -1).entries())
      expect(item.prev_hash).toBe(items[index + 1].hash);
    expect(items.at(-1).prev_hash).toBe('0'.repeat(64));
  });

  it('is read by those who may, and reading it is not written down', async () => {
    const { total } = await list();
    expectProblem(await viewer.client.get('/tenants/acme/audit'), 403, 'forbidden');
    expectProblem(await stranger.client.get('/tenants/acme/audit'), 404, 'not_found');
    expectProblem(await app.anonymous.get('/tenants/acme/audit'), 401, 'unauthorized');
    expect((await list()).total, 'the one denial').toBe(total + 1);
    await list('/verify');
    expect((await list()).total).toBe(total + 1);
  });

  it('has pages, and cursors that do not move when entries are added', async () => {
    const { total, page, page_size } = await list();
    expect({ page, page_size }).toEqual({ page: 1, page_size: 20 });
    expect(sequencesOf(await list('?page=2&page_size=10'))).toEqual(
      Array.from({ length: 10 }, (_, index) => total - 10 - index),
    );
    const pages = Math.ceil(total / 7);
    const last = await list(`?page=${pages}&page_size=7`);
    expect(sequencesOf(last).at(-1)).toBe(1);
    expect(last.next_cursor).toBeNull();
    expect(await list(`?page=${pages + 1}&page_size=7`)).toMatchObject({
      items: [],
      total,
      next_cursor: null,
    });
    expect((await list('?limit=3')).items.length).toBe(3);

    for (const filter of ['', '&actor_type=user', '&user_id=' + owner.id]) {
      const all = await list(`?page_size=100${filter}`);
      const walked: number[] = [];
      let answer = await list(`?page_size=7${filter}`);
      for (;;) {
        walked.push(...sequencesOf(answer));
        if (answer.next_cursor === null) break;
        // What is added in between moves nothing.
        await owner.client.patch('/tenants/acme', { description: `changed ${walked.length} ${filter}` });
        answer = await list(`?page_size=7&cursor=${answer.next_cursor}${filter}`);
        expect(answer.page).toBeNull();
      }
      expect(walked, filter).toEqual(sequencesOf(all));
    }
  });

  it('is narrowed by each filter, from either end', async () => {
    const { items } = await list('?page_size=100');
    const expectFiltered = async (query: string, keeps: (entry: AuditEntry) => boolean) => {
      const expected = sequencesOf({ items: items.filter(keeps) });
      const limit = `limit=100&cursor=${items[0].sequence + 1}`;
      expect(sequencesOf(await list(`?${limit}&${query}`)), query).toEqual(expected);
      return expected.length;
    };
    const [first] = items as AuditEntry[];
    const middle = items[Math.floor(items.length / 2)] as AuditEntry;
    expect(await expectFiltered(`action=${first?.action}`, e => e.action === first?.action)).toBeGreaterThan(
      0,
    );
    expect(await expectFiltered('action=member.*', e => e.action.startsWith('member.'))).toBeGreaterThan(0);
    expect(await expectFiltered('action=membe.*', () => false)).toBe(0);
    expect(await expectFiltered(`user_id=${owner.id}`, e => e.actor.id === owner.id)).toBeGreaterThan(20);
    expect(await expectFiltered('actor_type=user', e => e.actor.type === 'user')).toBeGreaterThan(0);
    await expectFiltered('actor_type=platform_admin', e => e.actor.type === 'platform_admin');
    expect(await expectFiltered('outcome=denied', e => e.outcome === 'denied')).toBeGreaterThan(0);
    await expectFiltered('outcome=allowed', e => e.outcome === 'allowed');
    await expectFiltered(
      `resource_type=${middle.resource.type}`,
      e => e.resource.type === middle.resource.type,
    );
    await expectFiltered(`resource_id=${middle.resource.id}`, e => e.resource.id === middle.resource.id);
    await expectFiltered('search=MEMBER.', e => e.action.includes('member.'));
    await expectFiltered('search=%25', () => false);
    await expectFiltered(`start_date=${middle.time}`, e => e.time >= middle.time);
    await expectFiltered(`end_date=${middle.time}`, e => e.time <= middle.time);
    const east = new Date(Date.parse(middle.time) + 2 * 3600_000).toISOString().replace('Z', '%2B02:00');
    await expectFiltered(`end_date=${east}`, e => e.time <= middle.time);
    await expectFiltered(
      `action=member.*&outcome=allowed&actor_type=user`,
      e => e.action.startsWith('member.') && e.actor.type === 'user',
    );

    const filtered = sequencesOf(await list('?limit=100&outcome=allowed'));
    const pages = Math.ceil(filtered.length / 7);
    const walked: number[] = [];
    for (let page = 1; page <= pages; page++)
      walked.push(...sequencesOf(await list(`?page=${page}&page_size=7&outcome=allowed`)));
    expect(walked).toEqual(filtered);
    expect(await list(`?page=${pages + 1}&page_size=7&outcome=allowed`)).toMatchObject({ items: [] });
  });

  it('takes an end date with all of its day', async () => {
    const today = new Date().toISOString().slice(0, 10);
    const yesterday = new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);
    const { total } = await list();
    expect((await list(`?start_date=${today}&end_date=${today}&limit=100`)).total).toBe(total);
    expect((await list(`?end_date=${yesterday}`)).total).toBe(0);
    expect((await list(`?end_date=9998-12-31`)).total).toBe(total);
  });

  it.each([
    ['start_date=yesterday', 'start_date'],
    ['start_date=2026-02-30', 'start_date'],
    ['start_date=0000-01-01', 'start_date'],
    ['end_date=9999-12-31', 'end_date'],
    ['end_date=2026-01-01T10:00:00', 'end_date'],
    ['start_date=2026-02-01&end_date=2026-01-01', 'end_date'],
    ['action=*', 'action'],
    ['action=member.%25', 'action'],
    ['user_id=me', 'user_id'],
    ['actor_type=nobody', 'actor_type'],
    ['outcome=maybe', 'outcome'],
    ['page=0', 'page'],
    ['page_size=101', 'page_size'],
    ['limit=5&page_size=5', 'limit'],
    ['cursor=x', 'cursor'],
    ['cursor=3&page=2', 'cursor'],
    ['cursor=0', 'cursor'],
    ['before=3', 'before'],
  ])('refuses ?%s', async (query, path) => {
    const answer = await owner.client.get(`/tenants/acme/audit?${query}`);
    expectProblem(answer, 422, 'validation_failed');
    expect(JSON.stringify(answer.body.errors)).toContain(path);
  });
});

describe('what is denied', () => {
  it('stands in the chain of the tenant that one was let into', async () => {
    const answer = await viewer.client.post('/tenants/acme/members', {
      email: stranger.email,
      role: 'owner',
    });
    expectProblem(answer, 403, 'forbidden');
    expect(await newest()).toMatchObject({
      actor: { type: 'user', id: viewer.id, name: viewer.email },
      action: 'request.denied',
      resource: { type: 'route', id: 'POST /tenants/:tenant/members' },
      details: {
        method: 'POST',
        route: '/tenants/:tenant/members',
        code: 'forbidden',
        permission: 'tenant:manage_members',
      },
      outcome: 'denied',
      request_id: answer.body.request_id,
    });
    expectProblem(await owner.client.post('/tenants/acme/suspend'), 403, 'forbidden');
    expect(await newest()).toMatchObject({
      actor: { type: 'user', id: owner.id },
      resource: { id: 'POST /tenants/:tenant/suspend' },
      details: { permission: 'platform:tenants' },
    });
  });

  it('stands in the platform’s chain where one was not let in, whether there is such a tenant or not', async () => {
    const before = await list();
    const long = 'x'.repeat(300);
    for (const [name, client, path] of [
      ['acme', stranger.client, '/tenants/acme/members?page=1'],
      ['no-such-tenant', stranger.client, '/tenants/no-such-tenant/members?page=1'],
      [tenantId, stranger.client, `/tenants/${tenantId}/members?page=1`],
      ['acme', stranger.client.withHeaders({ 'x-tenant-id': 'acme' }), '/auth/me'],
      ['x'.repeat(63), stranger.client, `/tenants/${long}/members?page=1`],
    ] as const) {
      expectProblem(await client.get(path), 404, 'not_found');
      const route = path.startsWith('/auth') ? '/auth/me' : '/tenants/:tenant/members';
      const entry = await newest('/audit', app.admin);
      expect(entry).toMatchObject({
        tenant_id: null,
        actor: { type: 'user', id: stranger.id },
        action: 'request.denied',
        resource: { type: 'route', id: `GET ${route}` },
        outcome: 'denied',
      });
      expect(entry.details).toEqual({
        method: 'GET',
        route,
        code: 'not_found',
        permission: route === '/auth/me' ? 'user:read' : 'tenant:read',
        tenant: name,
      });
    }
    expectProblem(await stranger.client.get('/audit'), 403, 'forbidden');
    expect((await newest('/audit', app.admin)).details).toMatchObject({ permission: 'platform:audit' });
    expect(await list(), 'the chain of the tenant').toEqual(before);
  });

  it('is denied all the same where it cannot be written down', async () => {
    await superuser(`REVOKE EXECUTE ON FUNCTION append_audit(uuid, jsonb) FROM ${PLATFORM_ROLE}`);
    try {
      expectProblem(await viewer.client.delete('/tenants/acme/kbs/docs'), 403, 'forbidden');
      expectProblem(await stranger.client.get('/tenants/acme'), 404, 'not_found');
    } finally {
      await superuser(`GRANT EXECUTE ON FUNCTION append_audit(uuid, jsonb) TO ${PLATFORM_ROLE}`);
    }
  });

  it('is no other failure', async () => {
    const { total } = await list();
    expectProblem(await owner.client.get('/tenants/acme/kbs/no-such-kb'), 404, 'not_found');
    expectProblem(await owner.client.post('/tenants/acme/kbs', {}), 422, 'validation_failed');
    expect((await list()).total).toBe(total);
  });

  it('of a suspended tenant stands in the platform’s chain', async () => {
    await app.createTenant('closed');
    const member = await app.createMember('closed', 'owner');
    await expectStatus(200, app.admin.post('/tenants/closed/suspend'));
    const { total } = await list('', '/tenants/closed/audit', app.admin);
    expectProblem(await member.client.get('/tenants/closed/kbs'), 403, 'tenant_suspended');
    expect(await newest('/audit', app.admin)).toMatchObject({
      actor: { id: member.id },
      details: { code: 'tenant_suspended' },
      outcome: 'denied',
    });
    expect((await list('', '/tenants/closed/audit', app.admin)).total).toBe(total);
  });
});

describe('the chain', () => {
  const verify = async (path = '/tenants/acme/audit/verify', client: Client = owner.client) =>
    (await expectStatus(200, client.get(path))).body;

  it('verifies: a tenant’s and the platform’s', async () => {
    const { total, items } = await list('?page_size=1');
    expect(await verify()).toEqual({
      valid: true,
      entries: total,
      head: { sequence: total, hash: items[0].hash },
      first_problem: null,
      problems: [],
    });
    expect(await verify('/audit/verify', app.admin)).toMatchObject({ valid: true, first_problem: null });
    expectProblem(await owner.client.get('/audit/verify'), 403, 'forbidden');
  });

  const rows = `audit_entries WHERE chain_id = (SELECT id FROM tenants WHERE name = 'acme') AND sequence`;
  const last = `(SELECT max(sequence) FROM audit_entries WHERE chain_id = (SELECT id FROM tenants WHERE name = 'acme'))`;
  it.each<
    [what: string, statement: (length: number) => string, problem: (length: number) => [number, string]]
  >([
    ['a changed detail', () => `UPDATE ${set(rows, `details = '{"a": 1}'`)} = 7`, () => [7, 'changed']],
    [
      'a number that no JSON holds',
      () => `UPDATE ${set(rows, `details = '{"a": 1e400}'`)} = 7`,
      () => [7, 'changed'],
    ],
    ['another actor', () => `UPDATE ${set(rows, `actor_name = 'eve'`)} = 1`, () => [1, 'changed']],
    ['another time', () => `UPDATE ${set(rows, `occurred_at = 'infinity'`)} = 9`, () => [9, 'changed']],
    [
      'an outcome',
      length =>
        `UPDATE ${set(rows, `outcome = CASE outcome WHEN 'denied' THEN 'allowed' ELSE 'denied' END`)} = ${length}`,
      length => [length, 'changed'],
    ],
    ['a hash', () => `UPDATE ${set(rows, `hash = repeat('a', 64)`)} = 12`, () => [12, 'changed']],
    ['a removed row', () => `DELETE FROM ${rows} = 11`, () => [11, 'missing']],
    ['the first row removed', () => `DELETE FROM ${rows} = 1`, () => [1, 'missing']],
    ['the last row removed', () => `DELETE FROM ${rows} = ${last}`, length => [length, 'missing']],
    [
      'the last rows removed',
      length => `DELETE FROM ${rows} > ${length - 3}`,
      length => [length - 2, 'missing'],
    ],
    ['all rows removed', () => `DELETE FROM ${rows} > 0`, () => [1, 'missing']],
    [
      'two rows that changed places',
      () => `UPDATE ${set(rows, 'sequence = -sequence')} IN (5, 6);
             UPDATE ${set(rows, 'sequence = 11 + sequence')} < 0`,
      () => [5, 'reordered'],
    ],
    [
      'the end moved back',
      length => `DELETE FROM ${rows} > ${length - 2};
        UPDATE audit_chains SET sequence = sequence - 2 WHERE tenant_id IS NOT NULL`,
      length => [length - 2, 'head'],
    ],
    [
      'a row behind the end',
      () => `INSERT INTO audit_entries (chain_id, sequence, occurred_at, actor_type, action, resource_type, details, outcome, prev_hash, hash)
        SELECT chain_id, sequence + 1, now(), 'system', 'x.done', 'x', '{}', 'allowed', hash, 'x' FROM ${rows} = ${last}`,
      length => [length + 1, 'changed'],
    ],
    ['an end that is gone', () => `DELETE FROM audit_chains`, () => [1, 'head']],
  ])('with %s names its place', async (what, statement, problem) => {
    const length = (await list()).total;
    await superuser(
      `CREATE TABLE kept_entries AS SELECT * FROM audit_entries`,
      `CREATE TABLE kept_chains AS SELECT * FROM audit_chains`,
      `ALTER TABLE audit_entries DROP CONSTRAINT audit_entries_tenant_id_chain_id_fkey`,
      statement(length),
    );
    try {
      const [sequence, kind] = problem(length);
      const found = await verify();
      expect(found.first_problem).toMatchObject({ sequence, kind, message: expect.any(String) });
      expect(found).toMatchObject({
        valid: false,
        problems: [found.first_problem, ...found.problems.slice(1)],
      });
      // Without an end there is nothing to append to, not even that the chain is exported.
      if (/behind|gone/.test(what)) {
        expectProblem(await owner.client.get('/tenants/acme/audit/export'), 500, 'internal_error');
        return;
      }
      // Whoever exports it finds the same.
      const { code, output } = await verifyFile(await exported());
      expect(code, output).toBe(1);
      expect(output).toContain(`${sequence} `);
    } finally {
      const columns = `chain_id, sequence, occurred_at, actor_type, actor_id, actor_name, action, resource_type,
        resource_id, details, outcome, ip, request_id, prev_hash, hash`;
      await superuser(
        `TRUNCATE audit_entries, audit_chains`,
        `INSERT INTO audit_chains (chain_id, sequence, hash) SELECT chain_id, sequence, hash FROM kept_chains`,
        `INSERT INTO audit_entries (${columns}) SELECT ${columns} FROM kept_entries`,
        `ALTER TABLE audit_entries ADD CONSTRAINT audit_entries_tenant_id_chain_id_fkey
           FOREIGN KEY (tenant_id, chain_id) REFERENCES audit_chains (tenant_id, chain_id) ON DELETE CASCADE`,
        `DROP TABLE kept_entries, kept_chains`,
      );
    }
    expect((await verify()).valid).toBe(true);
  });
});

/** `audit_entries WHERE …` with a SET in between. */
const set = (rows: string, assignment: string) => rows.replace(' WHERE', ` SET ${assignment} WHERE`);

async function exported(
  query = '',
  path = '/tenants/acme/audit/export',
  client = owner.client,
): Promise<string> {
  const { status, body } = await client.get(`${path}${query}`);
  expect(status, body).toBe(200);
  return body;
}

/** Runs what `npm run audit:verify` runs, without any setting in its surroundings. */
async function verifyFile(text: string, ...options: string[]): Promise<{ code: number; output: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'enclave-audit-'));
  const file = join(folder, 'audit.jsonl');
  writeFileSync(file, text);
  try {
    return await new Promise(resolve => {
      const script = join(import.meta.dirname, '../../scripts/start.mjs');
      const { PATH, HOME } = process.env;
      execFile(
        process.execPath,
        [script, 'src/audit-verify.js', file, ...options],
        { env: { PATH, HOME }, cwd: folder },
        (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr }),
      );
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('an export', () => {
  it('is verified without a database', async () => {
    const answer = await owner.client.get('/tenants/acme/audit/export');
    expect(answer.headers.get('content-type')).toBe('application/x-ndjson; charset=utf-8');
    expect(answer.headers.get('content-disposition')).toMatch(
      /^attachment; filename="audit-acme-[\d-]{10}\.jsonl"$/,
    );
    const lines = answer.body
      .trimEnd()
      .split('\n')
      .map(JSON.parse as any) as any[];
    const { total, items } = await list('?page_size=1');
    expect(lines.slice(0, -1).map(({ sequence }: AuditEntry) => sequence)).toEqual(
      Array.from({ length: total }, (_, index) => index + 1),
    );
    expect(lines.at(-2), 'the export itself').toMatchObject({
      action: 'audit.exported',
      actor: { id: owner.id },
      details: { format: 'jsonl' },
    });
    expect(lines.at(-1)).toEqual({
      audit_export: {
        tenant_id: tenantId,
        head: { sequence: total, hash: items[0].hash },
        last: { sequence: total, hash: items[0].hash },
        count: total,
        start_sequence: 1,
        filters: {},
        complete: true,
        verifiable: true,
        exported_at: expect.any(String),
      },
    });
    expect(await verifyFile(answer.body)).toEqual({
      code: 0,
      output: `${total} entries, chain intact, head ${items[0].hash}\n`,
    });
    expect((await verifyFile(answer.body, '--head', items[0].hash)).code).toBe(0);
    const other = await verifyFile(answer.body, '--head', '0'.repeat(64));
    expect(other).toMatchObject({ code: 1, output: expect.stringContaining(items[0].hash) });
    const platform = await verifyFile(await exported('', '/audit/export', app.admin));
    expect(platform).toMatchObject({ code: 0, output: expect.stringMatching(/^\d+ entries, chain intact/) });
  });

  it('that was tampered with is refused, with line and entry', async () => {
    const text = await exported();
    expect(await verifyFile(text.replace('"sequence":4,', '"sequence":4,"more":1,'))).toMatchObject({
      code: 1,
    });
    const lines = text.split('\n');
    const removed = await verifyFile(lines.toSpliced(4, 1).join('\n'));
    expect(removed).toMatchObject({
      code: 1,
      output: expect.stringContaining('line 5: Entry 5 is missing.'),
    });
    const changed = await verifyFile(text.replace(owner.email, 'eve@example.com'));
    expect(changed.output).toMatch(/^line \d+: Entry \d+ was changed\. \(changed\)\n/);
    expect(changed.output).toMatch(/\d+ entries, chain broken at entry \d+\n$/);
    const cut = await verifyFile(lines.slice(0, -2).join('\n'));
    expect(cut).toMatchObject({ code: 0, output: expect.stringContaining('cannot be proven') });
    expect(await verifyFile('no export')).toMatchObject({ code: 2 });
  });

  it('of a range can be verified, what a filter leaves cannot', async () => {
    const range = await exported('?start_sequence=5&end_sequence=9');
    expect(range.trimEnd().split('\n').length).toBe(6);
    expect(await verifyFile(range, '--from', '5')).toMatchObject({
      code: 0,
      output: expect.stringMatching(/^5 entries, chain intact/),
    });
    expect(await verifyFile(range)).toMatchObject({ code: 1, output: expect.stringContaining('--from') });
    const filtered = await exported('?action=member.*');
    const lines = filtered
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(new Set(lines.slice(0, -1).map(({ action }) => action.split('.')[0]))).toEqual(
      new Set(['member']),
    );
    expect(lines.at(-1).audit_export).toMatchObject({
      complete: false,
      verifiable: false,
      filters: { action: 'member.*' },
    });
    expect(await verifyFile(filtered)).toMatchObject({ code: 2, output: expect.stringContaining('filter') });
    expectProblem(
      await owner.client.get('/tenants/acme/audit/export?start_sequence=9&end_sequence=5'),
      422,
      'validation_failed',
    );
    expectProblem(await viewer.client.get('/tenants/acme/audit/export'), 403, 'forbidden');
  });

  it('for spreadsheets runs no formula', async () => {
    await expectStatus(200, owner.client.patch('/tenants/acme', { description: 'before' }));
    const answer = await owner.client.get('/tenants/acme/audit/export?format=csv');
    expect(answer.headers.get('content-type')).toBe('text/csv; charset=utf-8');
    const [header, ...rows] = answer.body.trimEnd().split('\n');
    expect(header).toMatch(/^\uFEFF?sequence,time,actor_type,actor_id,actor_name,action,/);
    expect(rows.length).toBe((await list()).total);
  });

  it('ends when its reader leaves', async () => {
    await superuser(
      `INSERT INTO audit_entries (chain_id, sequence, occurred_at, actor_type, action, resource_type, details, outcome, prev_hash, hash)
       SELECT '00000000-0000-0000-0000-000000000000', c.sequence + n, now(), 'system', 'x.done', 'x',
              jsonb_build_object('text', repeat('x', 2000)), 'allowed', 'x', 'x'
       FROM audit_chains c, generate_series(1, 20000) n WHERE c.tenant_id IS NULL`,
      `UPDATE audit_chains SET sequence = sequence + 20000 WHERE tenant_id IS NULL`,
    );
    const read = await new Promise<number>((resolve, reject) => {
      const request = httpGet(
        `${app.admin.url}/api/v1/audit/export`,
        { headers: { authorization: `Bearer ${app.admin.token}` } },
        response => {
          response.once('data', (chunk: Buffer) => {
            response.destroy();
            resolve(chunk.length);
          });
        },
      );
      request.on('error', reject);
    });
    expect(read).toBeGreaterThan(0);
    const all = await exported('', '/audit/export', app.admin);
    expect(all.length).toBeGreaterThan(40_000_000);
    const { body } = await app.admin.get('/audit/verify');
    expect(body).toMatchObject({ valid: false, problems: { length: 100 } });
    await superuser(
      `DELETE FROM audit_entries WHERE action = 'x.done'`,
      `DELETE FROM audit_entries WHERE tenant_id IS NULL`,
      `DELETE FROM audit_chains WHERE tenant_id IS NULL`,
    );
  });
});

it('is described in the API document, with examples', async () => {
  const { body } = await app.anonymous.get('//openapi.json');
  for (const path of ['/audit', '/audit/verify', '/audit/export']) {
    for (const base of ['/api/v1', '/api/v1/tenants/{tenant}']) {
      const operation = body.paths[`${base}${path}`].get;
      expect(operation.tags).toEqual(['Audit']);
      expect(operation.summary).toEqual(expect.any(String));
    }
  }
  expect(body.components.schemas.AuditEntry.properties.action.example).toBe('member.added');
  const names = body.paths['/api/v1/audit'].get.parameters.map(({ name }: { name: string }) => name);
  expect(names).toEqual(expect.arrayContaining(['start_date', 'end_date', 'cursor', 'limit', 'action']));
});
