import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { TenantDeletionRepository } from '../../src/features/tenants/tenant-deletion.repository.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { FileStorage } from '../../src/foundation/storage/file-storage.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
});
afterAll(() => app?.close());

const superuser = <T>(statement: string, values: unknown[] = []): Promise<T[]> => {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(
    app.env,
    dataSource,
    async client => (await client.query(statement, values)).rows as T[],
  );
};

/** Tables that hold a row of the tenant, the register of tenants among them. */
async function tablesWith(tenantId: string): Promise<string[]> {
  const tables = await superuser<{ name: string }>(
    `SELECT table_name AS name FROM information_schema.columns
     WHERE table_schema = 'public' AND column_name = 'tenant_id'`,
  );
  expect(tables.length).toBeGreaterThan(10);
  const found: string[] = [];
  for (const [table, column] of [...tables.map(({ name }) => [name, 'tenant_id']), ['tenants', 'id']]) {
    const [row] = await superuser<{ count: number }>(
      `SELECT count(*)::int AS count FROM ${table} WHERE ${column} = $1`,
      [tenantId],
    );
    if (row!.count > 0) found.push(table as string);
  }
  return found;
}

const filesOf = (tenantId: string): string[] => {
  const folder = join(app.env.dataDir, 'files', tenantId);
  return existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String) : [];
};

const deletedEntry = async (tenantId: string): Promise<any[]> =>
  (
    await superuser<{ details: any }>(
      `SELECT details FROM audit_entries WHERE tenant_id IS NULL AND action = 'tenant.deleted' AND resource_id = $1`,
      [tenantId],
    )
  ).map(({ details }) => details);

/** A tenant with something in every table that a tenant has. */
async function createFullTenant(name: string): Promise<string> {
  const { id } = await app.createTenant(name);
  await app.createMember(name, 'editor');
  await expectStatus(200, app.admin.put(`/tenants/${name}/variables/KEY`, { value: 'secret' }));
  await expectStatus(
    201,
    app.admin.post(`/tenants/${name}/roles`, { name: 'reader', permissions: ['tenant:read'] }),
  );
  await expectStatus(201, app.admin.post(`/tenants/${name}/groups`, { name: 'support' }));
  await expectStatus(
    201,
    app.admin.post(`/tenants/${name}/invitations`, { email: 'invited@example.com', role: 'viewer' }),
  );
  for (const number of [1, 2, 3]) await app.addText(name, `Fact number ${number} of ${name}.`);
  return id;
}

describe('a tenant that is deleted', () => {
  it('is gone at once, and then with everything of it', async () => {
    const id = await createFullTenant('going');
    const member = await app.createMember('going', 'owner');
    expect((await tablesWith(id)).toSorted()).toEqual(
      expect.arrayContaining(['chunks', 'documents', 'invitations', 'knowledge_bases', 'members', 'roles']),
    );
    expect(filesOf(id).length).toBeGreaterThan(2);
    const [chain] = await superuser<{ hash: string; sequence: string }>(
      'SELECT hash, sequence FROM audit_chains WHERE chain_id = $1',
      [id],
    );

    const deleted = await member.client.delete('/tenants/going');
    expect(deleted.status).toBe(204);
    for (const client of [member.client, app.admin]) {
      expectProblem(await client.get('/tenants/going'), 404, 'not_found');
      expectProblem(await client.get(`/tenants/${id}/kbs/docs`), 404, 'not_found');
    }
    expect((await member.client.get('/tenants')).body.items).toEqual([]);
    const job = await app.jobEnded(deleted.headers.get('location') as string);
    expect(job).toMatchObject({
      kind: 'tenant-deletion',
      tenant_id: null,
      status: 'succeeded',
      result: { name: 'going', knowledge_bases: 1, documents: 3, members: 3 },
    });
    expect(await tablesWith(id)).toEqual([]);
    expect(filesOf(id)).toEqual([]);
    const [entry] = await deletedEntry(id);
    expect(entry).toMatchObject({
      name: 'going',
      documents: 3,
      last_audit_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    // One more than before: that somebody asked for it.
    expect(entry.audit_entries).toBe(Number(chain!.sequence) + 1);
    expect((await app.admin.get('/tenants?search=going')).body.total).toBe(0);
    await expectStatus(201, app.admin.post('/tenants', { name: 'going' }));
  });

  it('takes nothing of others with it, though row-level security is switched off', async () => {
    const names = ['leaving', 'staying'];
    for (const name of names) {
      await app.createTenant(name);
      await app.addText(name, `Fact of ${name}.`);
      await expectStatus(200, app.admin.post(`/tenants/${name}/kbs/docs/chat`, { message: 'Which fact?' }));
    }
    const switched = async (how: 'DISABLE' | 'ENABLE') => {
      for (const table of ['documents', 'chat_sessions', 'evaluations', 'knowledge_bases'])
        await superuser(`ALTER TABLE ${table} ${how} ROW LEVEL SECURITY`);
    };
    await switched('DISABLE');
    try {
      const { headers } = await expectStatus(204, app.admin.delete('/tenants/leaving'));
      expect((await app.jobEnded(headers.get('location') as string)).status).toBe('succeeded');
    } finally {
      await switched('ENABLE');
    }
    for (const what of ['kbs', 'kbs/docs/documents', 'sessions'])
      expect((await app.admin.get(`/tenants/staying/${what}`)).body.total, what).toBe(1);
  });

  it('leaves its children where they are, without a parent', async () => {
    const { body: parent } = await expectStatus(201, app.admin.post('/tenants', { name: 'parent' }));
    await expectStatus(
      201,
      app.admin.post('/tenants', { name: 'child', type: 'project', parent_id: parent.id }),
    );
    const { headers } = await expectStatus(204, app.admin.delete('/tenants/parent'));
    await app.jobEnded(headers.get('location') as string);
    expect((await app.admin.get('/tenants/child')).body.parent_id).toBeNull();
  });

  it('is deleted once, also when two ask for it', async () => {
    await app.createTenant('doomed');
    const answers = await Promise.all([1, 2, 3].map(() => app.admin.delete('/tenants/doomed')));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([204, 404, 404]);
    const location = answers.find(({ status }) => status === 204)!.headers.get('location') as string;
    expect((await app.jobEnded(location)).status).toBe('succeeded');
  });

  it('is seen by the platform while its rows are being removed, and cannot be activated', async () => {
    const { id } = await app.createTenant('waiting');
    const storage = app.application.nest.get(FileStorage, { strict: false });
    let release = () => undefined as void;
    const held = new Promise<void>(done => (release = () => done()));
    const deleteAll = vi.spyOn(storage, 'deleteAll').mockImplementation(() => held);
    try {
      const { headers } = await expectStatus(204, app.admin.delete('/tenants/waiting'));
      expect((await app.admin.get('/tenants?status=erasing')).body.items).toMatchObject([
        { id, name: 'waiting', status: 'erasing' },
      ]);
      expectProblem(await app.admin.post('/tenants/waiting/activate'), 404, 'not_found');
      expectProblem(await app.admin.post('/tenants', { name: 'waiting' }), 409, 'name_taken');
      expectProblem(
        await app.admin.post('/tenants', { name: 'below', type: 'project', parent_id: id }),
        422,
        'validation_failed',
      );
      const { client } = await app.createUser();
      const job = (headers.get('location') as string).replace('/api/v1', '');
      expectProblem(await client.get(job), 404, 'not_found');
      release();
      await app.jobEnded(headers.get('location') as string);
    } finally {
      release();
      deleteAll.mockRestore();
    }
  });

  it('is deleted in the end where the process stops in the middle', async () => {
    const id = await createFullTenant('halfway');
    const repository = app.application.nest.get(TenantDeletionRepository, { strict: false });
    let stopped = () => undefined as void;
    const reached = new Promise<void>(done => (stopped = () => done()));
    // Some documents are gone, and the process ends before the rest.
    vi.spyOn(repository, 'deleteKnowledgeBase').mockImplementation(() => {
      stopped();
      return new Promise((_, fail) => setTimeout(() => fail(new Error('The process ends.')), 300));
    });
    const { headers } = await expectStatus(204, app.admin.delete('/tenants/halfway'));
    await reached;
    await app.restart();
    expect(await app.jobEnded(headers.get('location') as string)).toMatchObject({ status: 'succeeded' });
    expect(await tablesWith(id)).toEqual([]);
    expect(filesOf(id)).toEqual([]);
    expect(await deletedEntry(id)).toHaveLength(1);
  });

  it('is written down once where the last step is done again', async () => {
    const id = await createFullTenant('again');
    const storage = app.application.nest.get(FileStorage, { strict: false });
    const deleteAll = vi.spyOn(storage, 'deleteAll');
    // After the rows, when the tenant is gone already.
    deleteAll
      .mockImplementationOnce(() => Promise.resolve())
      .mockRejectedValueOnce(new Error('The disk is away.'));
    const { headers } = await expectStatus(204, app.admin.delete('/tenants/again'));
    expect(await app.jobEnded(headers.get('location') as string)).toMatchObject({ status: 'succeeded' });
    deleteAll.mockRestore();
    expect(await deletedEntry(id)).toHaveLength(1);
    expect(filesOf(id)).toEqual([]);
  });

  it('does not hold up others while many documents go', async () => {
    const { id, kbId } = await app.createTenant('large');
    await superuser(
      `INSERT INTO documents (id, tenant_id, kb_id, title, source, mime_type, size_bytes, content_sha256, status)
       SELECT gen_random_uuid(), $1, $2, 'Document ' || n, 'text', 'text/markdown', 1, 'sha-' || n, 'ready'
       FROM generate_series(1, 1000) AS n`,
      [id, kbId],
    );
    const { headers } = await expectStatus(204, app.admin.delete('/tenants/large'));
    const times: number[] = [];
    for (let count = 0; count < 10; count++) {
      const started = performance.now();
      await expectStatus(200, app.admin.get('/tenants?page_size=1'));
      times.push(performance.now() - started);
      await sleep(20);
    }
    await app.jobEnded(headers.get('location') as string);
    expect(Math.max(...times)).toBeLessThan(1000);
    expect(await tablesWith(id)).toEqual([]);
  });
});
