import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type Tx, runTransaction } from '../../src/foundation/database/transaction.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';
import { tenantAudit } from '../setup/tenant-audit.js';

interface Person {
  id: string;
  email: string;
  client: Client;
}

let app: TestApplication;
let acme: { id: string; kbId: string };
let owner: Person;
/** Editors: one is listed, one is in a group that may come to be listed, one is neither. */
let listed: Person;
let grouped: Person;
let outsider: Person;
let group: string;
let open: any;
let secret: any;

const DOCS = '/tenants/acme/kbs/docs';
const SECRET = 'The merger with Zephyr Industries happens in May.';
const NOBODY = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';

beforeAll(async () => {
  app = await startTestApplication();
  acme = await app.createTenant('acme');
  owner = await app.createMember('acme', 'owner');
  listed = await app.createMember('acme', 'editor');
  grouped = await app.createMember('acme', 'editor');
  outsider = await app.createMember('acme', 'editor');
  group = (await expectStatus(201, owner.client.post('/tenants/acme/groups', { name: 'Board' }))).body.id;
  await addTo(group, grouped);
  open = await app.addText('acme', 'The canteen opens at noon. Everybody may know the merger of menus.');
  secret = await app.addText('acme', SECRET, { acl: { members: [listed.id] }, metadata: { kind: 'secret' } });
});
afterAll(() => app?.close());

const addTo = (groupId: string, { id }: Person) =>
  expectStatus(201, owner.client.post(`/tenants/acme/groups/${groupId}/members`, { user_id: id }));
const document = (id: string) => `${DOCS}/documents/${id}`;
const setAcl = (id: string, acl: unknown, by = owner.client) => by.put(`${document(id)}/acl`, { acl });
const titles = async (by: Client, query = '') =>
  (await expectStatus(200, by.get(`${DOCS}/documents${query}`))).body;
const passagesOf = async (by: Client, fields: Record<string, unknown> = {}) => {
  const { body } = await expectStatus(200, by.post(`${DOCS}/search`, { query: 'merger Zephyr', ...fields }));
  return (body.items ?? body.passages) as Array<{
    document_id: string;
    text: string;
    document_title: string;
  }>;
};
const errorsOf = (answer: { body: { errors: Array<{ path: string; code: string }> } }) =>
  answer.body.errors.map(({ path, code }) => `${path} ${code}`);

/** All that HTTP offers to whoever may not read the document. */
async function expectHidden({ client }: Person): Promise<void> {
  expect(await titles(client)).toMatchObject({ items: [{ id: open.id }], total: 1 });
  expect(await titles(client, '?search=Zephyr')).toMatchObject({ items: [], total: 0 });
  expect((await titles(client, '?page_size=1&page=2')).items).toEqual([]);
  for (const answer of await Promise.all([
    client.get(document(secret.id)),
    client.get(`${document(secret.id)}/content`),
    client.get(`${document(secret.id)}/chunks`),
    client.get(`${document(secret.id)}/acl`),
    client.put(`${document(secret.id)}/acl`, { acl: null }),
    client.patch(document(secret.id), { title: 'Mine' }),
    client.delete(document(secret.id)),
    client.post(`${document(secret.id)}/reindex`),
    client.post(`${document(secret.id)}/cancel`),
  ])) {
    expectProblem(answer, 404, 'not_found');
    expect(answer.body.detail).toBe('There is no such document.');
  }
  for (const mode of ['hybrid', 'vector', 'keyword']) {
    const passages = await passagesOf(client, { mode });
    expect(passages.map(passage => passage.document_id)).not.toContain(secret.id);
    expect(JSON.stringify(passages)).not.toContain('Zephyr');
  }
  for (const filter of [{ document_ids: [secret.id] }, { metadata: { kind: 'secret' } }]) {
    expect(await passagesOf(client, { filter })).toEqual([]);
  }
  const answer = await client.post(`${DOCS}/query`, { query: 'When does the merger with Zephyr happen?' });
  expect(JSON.stringify(answer.body)).not.toMatch(/Zephyr|May\./);
  const again = await client.post(`${DOCS}/documents/text`, { text: SECRET });
  expectProblem(again, 409, 'duplicate_document');
  expect(again.body.document_id).toBeUndefined();
  const { body: stats } = await expectStatus(200, client.get(`${DOCS}/stats`));
  expect(stats).toMatchObject({
    document_count: 1,
    chunk_count: open.chunk_count,
    storage_bytes: open.size_bytes,
    documents_by_status: { ready: 1 },
  });
  expect((await client.get(DOCS)).body).toMatchObject({ document_count: 1, chunk_count: open.chunk_count });
  expect((await client.get('/tenants/acme/kbs')).body.items).toMatchObject([{ document_count: 1 }]);
}

async function expectSeen({ client }: Person): Promise<void> {
  expect((await titles(client)).total).toBe(2);
  expect((await client.get(document(secret.id))).body).toMatchObject({
    restricted: true,
    title: secret.title,
  });
  expect((await client.get(`${document(secret.id)}/content`)).status).toBe(200);
  expect((await client.get(`${document(secret.id)}/chunks`)).body.total).toBe(secret.chunk_count);
  expect((await passagesOf(client)).map(passage => passage.document_id)).toContain(secret.id);
  expect((await client.get(`${DOCS}/stats`)).body).toMatchObject({ document_count: 2 });
  expect((await client.get('/tenants/acme/kbs')).body.items).toMatchObject([{ document_count: 2 }]);
}

describe('a document that only some may read', () => {
  it('is there for those who are listed, owners, admins and the platform', async () => {
    const admin = await app.createMember('acme', 'admin');
    for (const reader of [listed, owner, admin, { ...owner, client: app.admin }]) await expectSeen(reader);
    expect((await listed.client.get(document(open.id))).body.restricted).toBe(false);
    expect((await listed.client.get(`${document(secret.id)}/acl`)).body).toEqual({
      restricted: true,
      acl: { members: [listed.id], groups: [] },
    });
    expect((await owner.client.get(`${document(open.id)}/acl`)).body).toEqual({
      restricted: false,
      acl: null,
    });
  });

  it('is not there for anybody else', async () => {
    await expectHidden(outsider);
    await expectHidden(grouped);
    await expectSeen(listed);
  });

  it('leaves no trace of its words in the scores of what may be read', async () => {
    const scores = async ({ client }: Person, word: string, mode: string) => {
      const { body } = await expectStatus(
        200,
        client.post(`${DOCS}/search`, { query: `canteen ${word}`, mode }),
      );
      return (body.items ?? body.passages).map((passage: { document_id: string; score: number }) => [
        passage.document_id,
        passage.score,
      ]);
    };
    // The one word stands in the hidden document, the other in none; vectors of unknown words differ by themselves.
    const absent = await scores(outsider, 'Quokka', 'keyword');
    expect(await scores(outsider, 'Zephyr', 'keyword')).toEqual(absent);
    expect(absent).toHaveLength(1);
    expect(await scores(listed, 'Zephyr', 'keyword')).not.toEqual(await scores(listed, 'Quokka', 'keyword'));
    expect(await scores(owner, 'Zephyr', 'keyword')).not.toEqual(await scores(owner, 'Quokka', 'keyword'));
    // What was true for whoever asked last is not for who asks now.
    expect(await scores(outsider, 'Zephyr', 'keyword')).toEqual(absent);
  });

  it('is no more for a role that was granted on the knowledge base', async () => {
    const viewer = await app.createMember('acme', 'viewer_readonly');
    await expectStatus(201, owner.client.post(`${DOCS}/grants`, { user_id: viewer.id, role: 'admin' }));
    await expectHidden(viewer);
  });

  it('opens to a group at once, and closes at once to who leaves it', async () => {
    await expectStatus(200, setAcl(secret.id, { members: [listed.id], groups: [group] }));
    await expectSeen(grouped);
    await expectHidden(outsider);
    await addTo(group, outsider);
    await expectSeen(outsider);
    await expectStatus(204, owner.client.delete(`/tenants/acme/groups/${group}/members/${outsider.id}`));
    await expectHidden(outsider);
    await expectSeen(grouped);
    await expectStatus(200, setAcl(secret.id, { members: [listed.id] }));
    await expectHidden(grouped);
  });

  it('closes to whoever leaves the tenant, also when they come back', async () => {
    const guest = await app.createMember('acme', 'editor');
    await expectStatus(200, setAcl(secret.id, { members: [listed.id, guest.id] }));
    await expectSeen(guest);
    await expectStatus(204, owner.client.delete(`/tenants/acme/members/${guest.id}`));
    expectProblem(await guest.client.get(document(secret.id)), 404, 'not_found');
    await expectStatus(
      201,
      owner.client.post('/tenants/acme/members', { user_id: guest.id, role: 'editor' }),
    );
    await expectHidden(guest);
    await expectStatus(204, owner.client.delete(`/tenants/acme/members/${guest.id}`));
  });

  it('stays restricted when it is ingested again', async () => {
    await expectStatus(202, listed.client.post(`${document(secret.id)}/reindex`));
    secret = await app.settled('acme', secret.id);
    expect(secret).toMatchObject({ status: 'ready', restricted: true });
    await expectHidden(outsider);
    await expectSeen(listed);
  });

  it('can be opened to everybody, and closed again', async () => {
    await expectStatus(200, setAcl(secret.id, null, listed.client));
    await expectSeenAsOpen(outsider);
    expect((await setAcl(secret.id, { members: [listed.id] }, outsider.client)).status).toBe(422);
    const closed = await expectStatus(
      200,
      setAcl(secret.id, { members: [listed.id, outsider.id] }, outsider.client),
    );
    expect(closed.body).toEqual({
      restricted: true,
      acl: { members: [listed.id, outsider.id].toSorted(), groups: [] },
    });
    await expectStatus(200, setAcl(secret.id, { members: [listed.id] }));
    await expectHidden(outsider);
  });

  async function expectSeenAsOpen({ client }: Person): Promise<void> {
    expect((await client.get(document(secret.id))).body.restricted).toBe(false);
    expect((await passagesOf(client)).map(passage => passage.document_id)).toContain(secret.id);
    expect((await client.get(`${DOCS}/stats`)).body.document_count).toBe(2);
  }

  it('may be listed to nobody, by whoever sees everything', async () => {
    await expectStatus(200, setAcl(secret.id, {}));
    for (const person of [listed, grouped, outsider]) await expectHidden(person);
    await expectSeen(owner);
    await expectStatus(200, setAcl(secret.id, { members: [listed.id] }));
    await expectSeen(listed);
  });
});

describe('the list of readers', () => {
  it('names members and groups of the tenant alone', async () => {
    await app.createTenant('elsewhere');
    const stranger = await app.createMember('elsewhere', 'viewer');
    const theirs = (await expectStatus(201, app.admin.post('/tenants/elsewhere/groups', { name: 'Theirs' })))
      .body;
    const answer = await setAcl(secret.id, {
      members: [listed.id, stranger.id, NOBODY],
      groups: [theirs.id, group, NOBODY],
    });
    expectProblem(answer, 422, 'validation_failed');
    expect(errorsOf(answer)).toEqual([
      'acl.members.1 unknown_member',
      'acl.members.2 unknown_member',
      'acl.groups.0 unknown_group',
      'acl.groups.2 unknown_group',
    ]);
    for (const body of [
      {},
      { acl: [] },
      { acl: { members: ['x'] } },
      { acl: { readers: [] } },
      { members: [] },
    ]) {
      expectProblem(await owner.client.put(`${document(secret.id)}/acl`, body), 422, 'validation_failed');
    }
    expect((await owner.client.get(`${document(secret.id)}/acl`)).body.acl).toEqual({
      members: [listed.id],
      groups: [],
    });
    expectProblem(await setAcl(NOBODY, null), 404, 'not_found');
    const viewer = await app.createMember('acme', 'viewer');
    expectProblem(await setAcl(open.id, null, viewer.client), 403, 'forbidden');
    expectProblem(await viewer.client.get(`${document(open.id)}/acl`), 403, 'forbidden');
  });

  it('cannot leave out whoever sees no more than others', async () => {
    const refused = await setAcl(secret.id, { members: [owner.id], groups: [group] }, listed.client);
    expectProblem(refused, 422, 'validation_failed');
    expect(errorsOf(refused)).toEqual(['acl would_lock_you_out']);
    await expectSeen(listed);
    // Through a group is enough.
    await addTo(group, listed);
    await expectStatus(200, setAcl(secret.id, { groups: [group] }, listed.client));
    await expectSeen(listed);
    await expectStatus(200, setAcl(secret.id, { members: [listed.id] }));
    await expectStatus(204, owner.client.delete(`/tenants/acme/groups/${group}/members/${listed.id}`));
  });

  it('holds from the start, where a text or a file comes with one', async () => {
    const text = await expectStatus(
      202,
      listed.client.post(`${DOCS}/documents/text`, {
        text: 'Salaries rise by three percent.',
        acl: { members: [listed.id.toUpperCase(), listed.id] },
      }),
    );
    expect(text.body.restricted).toBe(true);
    expectProblem(await outsider.client.get(document(text.body.id)), 404, 'not_found');
    const form = new FormData();
    form.append('acl', JSON.stringify({ members: [listed.id], groups: [group] }));
    form.append(
      'file',
      new Blob(['# Bonus\n\nThe bonus is a month.'], { type: 'text/markdown' }),
      'bonus.md',
    );
    const file = await expectStatus(202, listed.client.post(`${DOCS}/documents`, form));
    expect(file.body.items).toMatchObject([{ restricted: true, file_name: 'bonus.md' }]);
    expectProblem(await outsider.client.get(document(file.body.items[0].id)), 404, 'not_found');
    expect((await grouped.client.get(document(file.body.items[0].id))).status).toBe(200);
    for (const id of [text.body.id, file.body.items[0].id]) {
      await app.settled('acme', id);
      await expectStatus(204, listed.client.delete(document(id)));
    }
    await expectHidden(outsider);
  });

  it('refuses an upload that would be hidden from its maker, or names nobody', async () => {
    for (const acl of [{ members: [] }, { groups: [group] }]) {
      const answer = await outsider.client.post(`${DOCS}/documents/text`, { text: 'Lost.', acl });
      expectProblem(answer, 422, 'validation_failed');
      expect(errorsOf(answer)).toEqual(['acl would_lock_you_out']);
    }
    for (const [acl, code] of [
      ['{"members":["' + NOBODY + '"]}', 'unknown_member'],
      ['{"members":', 'custom'],
      ['[]', 'invalid_type'],
      ['{"all":true}', 'unknown_field'],
    ] as const) {
      const form = new FormData();
      form.append('acl', acl);
      form.append('file', new Blob(['Some text.'], { type: 'text/plain' }), 'some.txt');
      const answer = await owner.client.post(`${DOCS}/documents`, form);
      expectProblem(answer, 422, 'validation_failed');
      expect(errorsOf(answer)[0]).toContain(code);
    }
    expect((await titles(owner.client)).total).toBe(2);
  });

  it('is written down in the audit, and never what the document says, nor its title', async () => {
    const entries = await tenantAudit(app, acme.id, 'document');
    const changes = entries.filter(entry => entry.action === 'document.acl_changed');
    expect(changes[0]).toMatchObject({
      actor_id: owner.id,
      resource_id: secret.id,
      details: {
        kb_id: acme.kbId,
        before: { members: [listed.id], groups: [] },
        after: { members: [listed.id], groups: [group] },
      },
    });
    const actions = new Set(entries.map(entry => entry.action));
    expect(actions).toEqual(
      new Set(['document.created', 'document.deleted', 'document.reindexed', 'document.acl_changed']),
    );
    expect(JSON.stringify(entries)).not.toContain('The bonus is a month');
    const of = (id: string) => entries.filter(entry => entry.resource_id === id);
    expect(of(open.id).map(({ details }) => details['title'])).toContain(open.title);
    for (const { action, details } of of(secret.id)) {
      const isOpened = action === 'document.acl_changed' && details['after'] === null;
      expect(details['title'], action).toBe(isOpened ? secret.title : null);
    }
    expect(JSON.stringify(entries)).not.toMatch(/Salaries|bonus/);
  });

  it('shows whoever reads the audit, but not the document, neither its titles nor its address', async () => {
    const source = { source_id: 'plan', source_url: 'https://intranet.example.com/takeover' };
    const fields = { acl: { members: [listed.id] }, ...source };
    const add = async (more: object) =>
      (await expectStatus(202, listed.client.post(`${DOCS}/documents/text`, { ...fields, ...more }))).body;
    const { id } = await add({ text: 'Plan one.', title: 'Takeover one' });
    await app.settled('acme', id);
    await expectStatus(200, listed.client.patch(document(id), { title: 'Takeover two' }));
    await add({ text: 'Plan two.', title: 'Takeover three' });
    await app.settled('acme', id);
    await expectStatus(204, listed.client.delete(document(id)));
    // Closed by newer content: whoever reads this entry may not read the document that it is about.
    const closed = await app.addText('acme', 'Everybody may read it.', {
      source_id: 'closing',
      title: 'Menu',
    });
    await expectStatus(
      202,
      listed.client.post(`${DOCS}/documents/text`, {
        text: 'Few may.',
        source_id: 'closing',
        acl: { members: [listed.id] },
      }),
    );
    const entries = await tenantAudit(app, acme.id, 'document');
    const told = (of: string) => entries.filter(entry => entry.resource_id === of);
    expect(told(id).map(({ action }) => action)).toEqual([
      'document.created',
      'document.updated',
      'document.version_added',
      'document.deleted',
    ]);
    expect(JSON.stringify(told(id))).not.toMatch(/takeover/i);
    expect(told(closed.id).map(({ action, details }) => [action, details['title']])).toEqual([
      ['document.created', 'Menu'],
      ['document.version_added', null],
    ]);
    await app.settled('acme', closed.id);
    await expectStatus(204, listed.client.delete(document(closed.id)));
  });
});

describe('the database itself', () => {
  /** As TenantDatabase enters it, with whatever groups and access. */
  const entering = <T>(
    userId: string,
    work: (tx: Tx) => Promise<T>,
    groups: string[] = [],
    access = 'granted',
  ) =>
    runTransaction(
      app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
      `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${acme.id}'; SET LOCAL app.user_id = '${userId}';
       SET LOCAL app.groups = '{${groups.join(',')}}'; SET LOCAL app.access = '${access}'`,
      work,
    );
  const tables = { documents: 'id', chunks: 'document_id', chunk_vectors: 'document_id' };
  const seen = async (tx: Tx) => {
    const found: boolean[] = [];
    for (const [table, column] of Object.entries(tables)) {
      const rows: unknown[] = await tx.query(`SELECT 1 FROM ${table} WHERE ${column} = $1`, [secret.id]);
      found.push(rows.length > 0);
    }
    return found;
  };

  it('shows the rows of a restricted document to its readers alone', async () => {
    expect(await entering(outsider.id, seen)).toEqual([false, false, false]);
    expect(await entering('', seen)).toEqual([false, false, false]);
    expect(await entering(listed.id, seen)).toEqual([true, true, true]);
    expect(await entering(outsider.id, seen, [], 'all')).toEqual([true, true, true]);
    await expectStatus(200, setAcl(secret.id, { groups: [group] }));
    expect(await entering(outsider.id, seen, [group])).toEqual([true, true, true]);
    expect(await entering(listed.id, seen, [NOBODY])).toEqual([false, false, false]);
    await expectStatus(200, setAcl(secret.id, { members: [listed.id] }));
  });

  it('lets nobody else change, delete or open them, nor put chunks into them', async () => {
    const statements = [
      `UPDATE documents SET title = 'x' WHERE id = $1`,
      `UPDATE documents SET restricted = false WHERE id = $1`,
      `UPDATE chunks SET restricted = false WHERE document_id = $1`,
      `UPDATE chunk_vectors SET restricted = false WHERE document_id = $1`,
      `DELETE FROM chunk_vectors WHERE document_id = $1`,
      `DELETE FROM documents WHERE id = $1`,
    ];
    for (const statement of statements) {
      const [, count] = await entering(outsider.id, tx => tx.query(statement, [secret.id]));
      expect(count, statement).toBe(0);
    }
    await expect(
      entering(outsider.id, tx =>
        tx.query(
          `INSERT INTO chunks (id, tenant_id, kb_id, document_id, ordinal, text, start_offset, end_offset, token_count)
           VALUES ($1, $2, $3, $4, 999, 'x', 0, 1, 1)`,
          [NOBODY, acme.id, acme.kbId, secret.id],
        ),
      ),
    ).rejects.toThrow(/row-level security/);
    // A chunk has the flag of its document, whatever the statement says.
    await entering(listed.id, tx =>
      tx.query(
        `INSERT INTO chunks (id, tenant_id, kb_id, document_id, ordinal, text, start_offset, end_offset, token_count, restricted)
         VALUES ($1, $2, $3, $4, 999, 'x', 0, 1, 1, false)`,
        [NOBODY, acme.id, acme.kbId, secret.id],
      ),
    );
    const left = (tx: Tx) => tx.query('SELECT 1 FROM chunks WHERE id = $1', [NOBODY]);
    expect(await entering(outsider.id, left)).toEqual([]);
    expect(await entering(listed.id, left)).toHaveLength(1);
    await entering(listed.id, tx => tx.query('DELETE FROM chunks WHERE id = $1', [NOBODY]));
  });

  it('hides a closed knowledge base with all that is in it', async () => {
    await expectStatus(200, owner.client.patch(DOCS, { visibility: 'granted' }));
    const all = async (tx: Tx) => {
      const found: boolean[] = [];
      for (const table of ['knowledge_bases', 'documents', 'chunks', 'chunk_vectors', 'kb_terms']) {
        const [{ count }] = await tx.query(`SELECT count(*)::int AS count FROM ${table}`);
        found.push((count as number) > 0);
      }
      return found;
    };
    expect(await entering(outsider.id, all)).toEqual([false, false, false, false, false]);
    expect(await entering(owner.id, all, [], 'all')).toEqual([true, true, true, true, true]);
    await expectStatus(201, owner.client.post(`${DOCS}/grants`, { group_id: group, role: 'viewer' }));
    expect(await entering(outsider.id, all, [group])).toEqual([true, true, true, true, true]);
    // A grant on the knowledge base opens no restricted document, nor does a reader's place open the knowledge base.
    expect(await entering(outsider.id, seen, [group])).toEqual([false, false, false]);
    expect(await entering(listed.id, seen)).toEqual([false, false, false]);
    expectProblem(await listed.client.get(document(secret.id)), 404, 'not_found');
    await expectStatus(200, owner.client.patch(DOCS, { visibility: 'tenant' }));
  });

  it('counts restricted documents where one is made, opened, closed and deleted', async () => {
    const counted = async () => {
      const [{ count }] = await entering(
        owner.id,
        tx => tx.query('SELECT restricted_count AS count FROM knowledge_bases WHERE id = $1', [acme.kbId]),
        [],
        'all',
      );
      return count as number;
    };
    expect(await counted()).toBe(1);
    const other = await app.addText('acme', 'Another secret.', { acl: {} });
    expect(await counted()).toBe(2);
    await expectStatus(200, setAcl(other.id, null));
    await expectStatus(200, setAcl(other.id, null));
    expect(await counted()).toBe(1);
    await expectStatus(200, setAcl(other.id, {}));
    await expectStatus(200, setAcl(other.id, { members: [listed.id] }));
    expect(await counted()).toBe(2);
    await expectStatus(204, owner.client.delete(document(other.id)));
    expect(await counted()).toBe(1);
  });

  it('weighs all chunks anew, also those that whoever deletes one may not read', async () => {
    const kb = (await expectStatus(201, owner.client.post('/tenants/acme/kbs', { name: 'Weights' }))).body;
    const add = async (text: string, acl?: unknown) => {
      const { body } = await expectStatus(
        202,
        owner.client.post(`/tenants/acme/kbs/weights/documents/text`, { text, acl }),
      );
      return app.settled('acme', body.id, 'weights');
    };
    const hidden = await add('The zebra grazes.', {});
    const long = await add('A long text about many lions and what they hunt at night. '.repeat(15));
    const weights = () =>
      entering(
        owner.id,
        tx =>
          tx.query('SELECT lexical::text AS weights FROM chunk_vectors WHERE document_id = $1', [hidden.id]),
        [],
        'all',
      );
    const before = await weights();
    await expectStatus(204, outsider.client.delete(`/tenants/acme/kbs/weights/documents/${long.id}`));
    expect(await weights()).not.toEqual(before);
    await expectStatus(204, owner.client.delete(`/tenants/acme/kbs/${kb.id}`));
  });
});
