import { existsSync, readdirSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { begunUpload } from '../setup/begun-upload.js';
import { tenantAudit } from '../setup/tenant-audit.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';

interface Person {
  id: string;
  email: string;
  client: Client;
}

let app: TestApplication;
let acme: { id: string; kbId: string };
let owner: Person;

beforeAll(async () => {
  app = await startTestApplication();
  acme = await app.createTenant('acme');
  owner = await app.createMember('acme', 'owner');
});
afterAll(() => app?.close());

const NOBODY = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';
const person = (role: string, tenant = 'acme') => app.createMember(tenant, role);
const makeGroup = async (name: string, ...members: Person[]): Promise<string> => {
  const { body } = await expectStatus(201, owner.client.post('/tenants/acme/groups', { name }));
  if (members.length > 0) await join(body.id, ...members);
  return body.id;
};
const join = (group: string, ...members: Person[]) =>
  expectStatus(
    201,
    owner.client.post(`/tenants/acme/groups/${group}/members`, { user_ids: members.map(({ id }) => id) }),
  );
const makeKb = async (name: string, fields = {}, by = owner.client) =>
  (await expectStatus(201, by.post('/tenants/acme/kbs', { name, ...fields }))).body;
const grant = (kb: string, fields: Record<string, string>, by = owner.client) =>
  by.post(`/tenants/acme/kbs/${kb}/grants`, fields);
const slugs = async (by: Client) =>
  (await expectStatus(200, by.get('/tenants/acme/kbs?page_size=100&sort=name'))).body.items.map(
    (kb: { slug: string }) => kb.slug,
  );
const addText = async (kb: string, text: string) => {
  const { body } = await expectStatus(
    202,
    owner.client.post(`/tenants/acme/kbs/${kb}/documents/text`, { text }),
  );
  return app.settled('acme', body.id, kb);
};
const errorsOf = (answer: { body: { errors: Array<{ path: string; code: string }> } }) =>
  answer.body.errors.map(({ path, code }) => `${path} ${code}`);

describe('groups', () => {
  it('are made, read, listed, changed and deleted', async () => {
    const made = await expectStatus(
      201,
      owner.client.post('/tenants/acme/groups', { name: '  Sales   team ', description: 'They sell' }),
    );
    expect(made.body).toMatchObject({
      name: 'Sales team',
      description: 'They sell',
      member_count: 0,
      created_by: owner.id,
    });
    const path = `/tenants/acme/groups/${made.body.id}`;
    expect((await owner.client.get(path)).body).toEqual(made.body);
    expect(
      (await owner.client.get(path.toUpperCase().replace('/TENANTS/ACME/GROUPS', '/tenants/acme/groups')))
        .status,
    ).toBe(200);
    const changed = await expectStatus(200, owner.client.patch(path, { name: 'Verkäufer' }));
    expect(changed.body).toMatchObject({ name: 'Verkäufer', description: 'They sell' });
    expect((await owner.client.get('/tenants/acme/groups?search=VERK')).body.items).toEqual([changed.body]);
    expect((await owner.client.delete(path)).status).toBe(204);
    for (const answer of [
      await owner.client.get(path),
      await owner.client.patch(path, {}),
      await owner.client.delete(path),
      await owner.client.get(`${path}/members`),
      await owner.client.post(`${path}/members`, { user_id: owner.id }),
      await owner.client.delete(`${path}/members/${owner.id}`),
      await owner.client.get('/tenants/acme/groups/nonsense'),
    ]) {
      expectProblem(answer, 404, 'not_found');
    }
  });

  it('have names of any alphabet, of which each is there once, however it is spelled', async () => {
    for (const name of ['Поддержка', '営業部', 'Équipe', '👩‍🔬 lab', "'; DROP TABLE groups; --"]) {
      const { body } = await expectStatus(201, owner.client.post('/tenants/acme/groups', { name }));
      expect(body.name).toBe(name.normalize('NFC'));
    }
    for (const name of ['поддержка', 'Équipe'.normalize('NFD'), 'ÉQUIPE', '営業部 ']) {
      expectProblem(await owner.client.post('/tenants/acme/groups', { name }), 409, 'name_taken');
    }
    for (const name of ['', '   ', 'a\u0007b', 'x'.repeat(101)]) {
      expectProblem(await owner.client.post('/tenants/acme/groups', { name }), 422, 'validation_failed');
    }
    const other = await makeGroup('Other');
    expectProblem(
      await owner.client.patch(`/tenants/acme/groups/${other}`, { name: 'équipe' }),
      409,
      'name_taken',
    );
    expect((await owner.client.patch(`/tenants/acme/groups/${other}`, { name: 'OTHER' })).status).toBe(200);
    const both = await Promise.all(
      [1, 2].map(() => owner.client.post('/tenants/acme/groups', { name: 'Wanted' })),
    );
    expect(both.map(({ status }) => status).toSorted()).toEqual([201, 409]);
  });

  it('hold members of the tenant alone', async () => {
    await app.createTenant('elsewhere');
    const stranger = await person('viewer', 'elsewhere');
    const [ada, ben] = [await person('viewer'), await person('viewer')];
    const group = await makeGroup('Mixed');
    const path = `/tenants/acme/groups/${group}/members`;
    const refused = await owner.client.post(path, { user_ids: [ada.id, stranger.id, NOBODY] });
    expectProblem(refused, 422, 'validation_failed');
    expect(errorsOf(refused)).toEqual(['user_ids.1 unknown_member', 'user_ids.2 unknown_member']);
    expect(refused.body.errors[0].message).toBe(refused.body.errors[1].message);
    expect((await owner.client.get(path)).body.total).toBe(0);
    const added = await expectStatus(
      201,
      owner.client.post(path, { user_ids: [ada.id, ben.id, ada.id.toUpperCase()] }),
    );
    expect(added.body).toEqual({ added: expect.arrayContaining([ada.id, ben.id]), member_count: 2 });
    expect((await expectStatus(201, owner.client.post(path, { user_id: ada.id }))).body).toEqual({
      added: [],
      member_count: 2,
    });
    expect((await owner.client.get(`${path}?sort=email`)).body).toMatchObject({
      items: [ada, ben].map(({ id, email }) => ({ user_id: id, email, status: 'active' })),
      total: 2,
    });
    expect((await owner.client.get(`${path}?search=${ben.email}`)).body.total).toBe(1);
    for (const body of [{}, { user_id: ada.id, user_ids: [ben.id] }, { user_ids: [] }]) {
      expectProblem(await owner.client.post(path, body), 422, 'validation_failed');
    }
    const tooMany = { user_ids: Array.from({ length: 501 }, () => ada.id) };
    expectProblem(await owner.client.post(path, tooMany), 422, 'validation_failed');

    expect((await owner.client.delete(`${path}/${ben.id}`)).status).toBe(204);
    expectProblem(await owner.client.delete(`${path}/${ben.id}`), 404, 'not_found');
    await expectStatus(204, owner.client.delete(`/tenants/acme/members/${ada.id}`));
    expect((await owner.client.get(path)).body.total).toBe(0);
    // In another tenant the group is no group.
    expectProblem(await app.admin.get(`/tenants/elsewhere/groups/${group}`), 404, 'not_found');
    expectProblem(
      await app.admin.post(`/tenants/elsewhere/groups/${group}/members`, { user_id: stranger.id }),
      404,
      'not_found',
    );
    expect((await app.admin.get('/tenants/elsewhere/groups')).body.total).toBe(0);
  });

  it('are changed by those who manage members, and read by every member', async () => {
    const viewer = await person('viewer');
    const group = await makeGroup('Seen', viewer);
    expect((await viewer.client.get(`/tenants/acme/groups/${group}/members`)).body.total).toBe(1);
    for (const answer of [
      await viewer.client.post('/tenants/acme/groups', { name: 'Mine' }),
      await viewer.client.patch(`/tenants/acme/groups/${group}`, { name: 'Mine' }),
      await viewer.client.delete(`/tenants/acme/groups/${group}`),
      await viewer.client.post(`/tenants/acme/groups/${group}/members`, { user_id: viewer.id }),
      await viewer.client.delete(`/tenants/acme/groups/${group}/members/${viewer.id}`),
    ]) {
      expectProblem(answer, 403, 'forbidden');
    }
  });

  it('give nobody what the one who adds them does not hold', async () => {
    await expectStatus(
      201,
      owner.client.post('/tenants/acme/roles', {
        name: 'hr',
        permissions: [
          'tenant:read',
          'tenant:manage_members',
          'kb:read',
          'document:read',
          'query:run',
          'chat:own',
        ],
      }),
    );
    const hr = await person('hr');
    const closed = await makeKb('Board papers', { visibility: 'granted' });
    const [writers, board, readers] = [
      await makeGroup('Writers'),
      await makeGroup('Board'),
      await makeGroup('Readers'),
    ];
    await expectStatus(201, grant('docs', { group_id: writers, role: 'editor' }));
    await expectStatus(201, grant(closed.slug, { group_id: board, role: 'viewer_readonly' }));
    await expectStatus(201, grant('docs', { group_id: readers, role: 'viewer_readonly' }));
    const addSelf = (group: string) =>
      hr.client.post(`/tenants/acme/groups/${group}/members`, { user_id: hr.id });
    expectProblem(await addSelf(writers), 403, 'role_above_own');
    expectProblem(await addSelf(board), 403, 'role_above_own');
    expect((await addSelf(readers)).status).toBe(201);
    // Nor do they take it from others; what is their own they may give up.
    await join(writers, hr, owner);
    expectProblem(await hr.client.delete(`/tenants/acme/groups/${board}`), 403, 'role_above_own');
    expect((await hr.client.delete(`/tenants/acme/groups/${writers}/members/${hr.id}`)).status).toBe(204);
    expectProblem(
      await hr.client.delete(`/tenants/acme/groups/${writers}/members/${owner.id}`),
      403,
      'role_above_own',
    );
    // A group that reads a document which one may not read oneself.
    const secret = await addText('docs', 'The merger happens in May.');
    const insiders = await makeGroup('Insiders');
    await expectStatus(
      200,
      owner.client.put(`/tenants/acme/kbs/docs/documents/${secret.id}/acl`, {
        acl: { groups: [insiders] },
      }),
    );
    expectProblem(await addSelf(insiders), 403, 'role_above_own');
    expectProblem(await hr.client.get(`/tenants/acme/kbs/docs/documents/${secret.id}`), 404, 'not_found');
  });
});

describe('a grant in an open knowledge base', () => {
  it('widens what a member may do there, and there alone', async () => {
    const viewer = await person('viewer');
    const [here] = [await makeKb('Widened'), await makeKb('Untouched')];
    const add = (kb: string) =>
      viewer.client.post(`/tenants/acme/kbs/${kb}/documents/text`, { text: `A text for ${kb}.` });
    expectProblem(await add('widened'), 403, 'forbidden');
    const given = await expectStatus(201, grant('widened', { user_id: viewer.id, role: 'editor' }));
    expect(given.body).toMatchObject({
      user_id: viewer.id,
      group_id: null,
      name: viewer.email,
      role: 'editor',
      granted_by: owner.id,
    });
    expect((await add('widened')).status).toBe(202);
    expect((await viewer.client.patch(`/tenants/acme/kbs/${here.id.toUpperCase()}`, {})).status).toBe(200);
    expectProblem(await add('untouched'), 403, 'forbidden');
    expectProblem(await viewer.client.post('/tenants/acme/kbs', { name: 'New' }), 403, 'forbidden');
    // Its address may change, the grant stays.
    await expectStatus(200, owner.client.patch('/tenants/acme/kbs/widened', { slug: 'widened-2' }));
    expect((await viewer.client.patch('/tenants/acme/kbs/widened-2', {})).status).toBe(200);
    await expectStatus(204, owner.client.delete(`/tenants/acme/kbs/${here.id}/grants/${given.body.id}`));
    expectProblem(await viewer.client.patch('/tenants/acme/kbs/widened-2', {}), 403, 'forbidden');
    expect((await viewer.client.get('/tenants/acme/kbs/widened-2')).status).toBe(200);
  });

  it('lets somebody list and read that one whose role in the tenant reads none', async () => {
    const asker = await person('viewer_readonly');
    const kb = await makeKb('Read by askers');
    expectProblem(await asker.client.get('/tenants/acme/kbs'), 403, 'forbidden');
    await expectStatus(201, grant(kb.id, { user_id: asker.id, role: 'viewer' }));
    expect(await slugs(asker.client)).toEqual(['read-by-askers']);
    expect((await asker.client.get('/tenants/acme/kbs')).body.total).toBe(1);
    expect((await asker.client.get(`/tenants/acme/kbs/${kb.id}/documents`)).status).toBe(200);
    expectProblem(await asker.client.get('/tenants/acme/kbs/docs'), 403, 'forbidden');
  });

  it('can be of a role that the tenant made, and changes with it', async () => {
    await expectStatus(
      201,
      owner.client.post('/tenants/acme/roles', { name: 'janitor', permissions: ['document:delete'] }),
    );
    const viewer = await person('viewer');
    await expectStatus(201, grant('docs', { user_id: viewer.id, role: 'janitor' }));
    const [first, second] = [await addText('docs', 'Rubbish.'), await addText('docs', 'More rubbish.')];
    expect((await viewer.client.delete(`/tenants/acme/kbs/docs/documents/${first.id}`)).status).toBe(204);
    await expectStatus(200, owner.client.patch('/tenants/acme/roles/janitor', { permissions: [] }));
    expectProblem(
      await viewer.client.delete(`/tenants/acme/kbs/docs/documents/${second.id}`),
      403,
      'forbidden',
    );
  });
});

describe('a closed knowledge base', () => {
  let insider: Person;
  let outsider: Person;
  let closed: { id: string; slug: string };

  beforeAll(async () => {
    [insider, outsider] = [await person('editor'), await person('editor')];
    closed = await makeKb('Closed', { visibility: 'granted' });
    await addText('closed', 'The vault opens at nine.');
    await expectStatus(201, grant('closed', { user_id: insider.id, role: 'viewer' }));
  });

  it('is not there for whoever has no grant on it', async () => {
    expect(await slugs(outsider.client)).not.toContain('closed');
    const absent = (path: string) => [
      outsider.client.get(path),
      outsider.client.patch(path, { name: 'Mine' }),
      outsider.client.delete(path),
      outsider.client.get(`${path}/stats`),
      outsider.client.get(`${path}/grants`),
      outsider.client.put(`${path}/grants`, { grants: [] }),
      outsider.client.post(`${path}/grants`, { user_id: outsider.id, role: 'editor' }),
      outsider.client.get(`${path}/documents`),
      outsider.client.post(`${path}/documents/text`, { text: 'Let me in.' }),
      outsider.client.post(`${path}/search`, { query: 'vault' }),
      outsider.client.post(`${path}/query`, { query: 'When does the vault open?' }),
    ];
    for (const path of ['closed', closed.id, closed.id.toUpperCase()]) {
      for (const answer of await Promise.all(absent(`/tenants/acme/kbs/${path}`))) {
        expectProblem(answer, 404, 'not_found');
        expect(answer.body.detail).toBe('There is no such knowledge base.');
      }
    }
    for (const answer of await Promise.all(absent('/tenants/acme/kbs/absent'))) {
      expect(answer.body.detail).toBe('There is no such knowledge base.');
    }
    // Its name cannot be given twice, which is all that can be learnt of it.
    expectProblem(await outsider.client.post('/tenants/acme/kbs', { name: 'closed' }), 409, 'name_taken');
    const own = await makeKb('Own', {}, outsider.client);
    expectProblem(
      await outsider.client.patch(`/tenants/acme/kbs/${own.id}`, { slug: 'closed' }),
      409,
      'name_taken',
    );
  });

  it('is what the grant says for whoever has one, whatever their role in the tenant', async () => {
    expect(await slugs(insider.client)).toContain('closed');
    for (const path of ['closed', closed.id, closed.id.toUpperCase()]) {
      const kb = `/tenants/acme/kbs/${path}`;
      expect((await insider.client.get(kb)).body).toMatchObject({ visibility: 'granted', document_count: 1 });
      const found = await insider.client.post(`${kb}/search`, { query: 'vault' });
      expect(found.body.items ?? found.body.passages).toHaveLength(1);
      expectProblem(await insider.client.patch(kb, {}), 403, 'forbidden');
      expectProblem(await insider.client.delete(kb), 403, 'forbidden');
      expectProblem(await insider.client.post(`${kb}/documents/text`, { text: 'x' }), 403, 'forbidden');
      expectProblem(await insider.client.get(`${kb}/grants`), 403, 'forbidden');
    }
  });

  it('is open to owners, admins and the platform', async () => {
    const admin = await person('admin');
    for (const client of [owner.client, admin.client, app.admin]) {
      expect(await slugs(client)).toContain('closed');
      expect((await client.get('/tenants/acme/kbs/closed/grants')).body.total).toBe(1);
      expect((await client.patch('/tenants/acme/kbs/closed', {})).status).toBe(200);
    }
  });

  it('lets a group’s members in at once, and out at once', async () => {
    const group = await makeGroup('Vault keepers');
    await expectStatus(201, grant('closed', { group_id: group, role: 'viewer_readonly' }));
    const search = () => outsider.client.post('/tenants/acme/kbs/closed/search', { query: 'vault' });
    expectProblem(await search(), 404, 'not_found');
    await join(group, outsider);
    expect((await search()).status).toBe(200);
    expectProblem(await outsider.client.get('/tenants/acme/kbs/closed'), 403, 'forbidden');
    expect(await slugs(outsider.client)).not.toContain('closed');
    await expectStatus(204, owner.client.delete(`/tenants/acme/groups/${group}/members/${outsider.id}`));
    expectProblem(await search(), 404, 'not_found');
    await join(group, outsider);
    await expectStatus(204, owner.client.delete(`/tenants/acme/groups/${group}`));
    expectProblem(await search(), 404, 'not_found');
    expect((await owner.client.get('/tenants/acme/kbs/closed/grants')).body.total).toBe(1);
  });

  it('lets out whoever leaves the tenant, also when they come back', async () => {
    const guest = await person('editor');
    await expectStatus(201, grant('closed', { user_id: guest.id, role: 'viewer' }));
    expect((await guest.client.get('/tenants/acme/kbs/closed')).status).toBe(200);
    await expectStatus(204, owner.client.delete(`/tenants/acme/members/${guest.id}`));
    expectProblem(await guest.client.get('/tenants/acme/kbs/closed'), 404, 'not_found');
    await expectStatus(
      201,
      owner.client.post('/tenants/acme/members', { user_id: guest.id, role: 'editor' }),
    );
    expectProblem(await guest.client.get('/tenants/acme/kbs/closed'), 404, 'not_found');
  });

  it('keeps in whoever closes it', async () => {
    const [maker, other] = [await person('editor'), await person('editor')];
    const kb = await makeKb('Mine', { visibility: 'granted' }, maker.client);
    expect(kb).toMatchObject({ visibility: 'granted', created_by: maker.id });
    expect((await maker.client.get(`/tenants/acme/kbs/${kb.id}/grants`)).body.items).toMatchObject([
      { user_id: maker.id, role: 'editor' },
    ]);
    expectProblem(await other.client.get(`/tenants/acme/kbs/${kb.id}`), 404, 'not_found');
    expect((await maker.client.patch(`/tenants/acme/kbs/${kb.id}`, { description: 'x' })).status).toBe(200);
    // Opened again, closed by somebody whose grant is less than their role.
    await expectStatus(200, maker.client.patch(`/tenants/acme/kbs/${kb.id}`, { visibility: 'tenant' }));
    await expectStatus(
      201,
      maker.client.post(`/tenants/acme/kbs/${kb.id}/grants`, { user_id: other.id, role: 'viewer' }),
    );
    await expectStatus(200, other.client.patch(`/tenants/acme/kbs/${kb.id}`, { visibility: 'granted' }));
    expect((await other.client.get(`/tenants/acme/kbs/${kb.id}/grants`)).body.items).toMatchObject([
      { user_id: maker.id, role: 'editor' },
      { user_id: other.id, role: 'editor' },
    ]);
    const lockOut = await other.client.put(`/tenants/acme/kbs/${kb.id}/grants`, {
      grants: [{ user_id: maker.id, role: 'editor' }],
    });
    expectProblem(lockOut, 422, 'validation_failed');
    expect(errorsOf(lockOut)).toEqual(['grants would_lock_you_out']);
    const byOwner = await makeKb('Of the owner', { visibility: 'granted' });
    expect((await owner.client.get(`/tenants/acme/kbs/${byOwner.id}/grants`)).body.total).toBe(0);
  });

  it('is how new ones are where the tenant says so', async () => {
    await app.createTenant('cautious');
    const editor = await person('editor', 'cautious');
    await expectStatus(
      200,
      app.admin.put('/tenants/cautious/features', { features: { default_kb_visibility: 'granted' } }),
    );
    const { body } = await expectStatus(201, editor.client.post('/tenants/cautious/kbs', { name: 'New' }));
    expect(body.visibility).toBe('granted');
    expect((await editor.client.get('/tenants/cautious/kbs/new')).status).toBe(200);
  });

  it('counts with the tenant’s for those alone who see it', async () => {
    const count = async (client: Client) => (await client.get('/tenants/acme/kbs')).body.total;
    expect(await count(owner.client)).toBeGreaterThan(await count(outsider.client));
    expect((await outsider.client.get('/tenants/acme/kbs?search=closed')).body.total).toBe(0);
    expect((await owner.client.get('/tenants/acme/kbs?search=closed')).body.total).toBe(1);
  });
});

describe('the grants of a knowledge base', () => {
  it('are replaced whole, in one step', async () => {
    const [a, b] = [await person('viewer'), await person('viewer')];
    const group = await makeGroup('Replaced');
    const kb = await makeKb('Replaced');
    const put = (grants: unknown[]) => owner.client.put(`/tenants/acme/kbs/${kb.id}/grants`, { grants });
    const first = await expectStatus(
      200,
      put([
        { user_id: a.id, role: 'editor' },
        { group_id: group, role: 'viewer' },
      ]),
    );
    expect(first.body).toMatchObject({
      items: [
        { group_id: group, name: 'Replaced', role: 'viewer' },
        { user_id: a.id, role: 'editor' },
      ],
      total: 2,
    });
    const second = await expectStatus(
      200,
      put([
        { user_id: a.id, role: 'viewer' },
        { user_id: b.id, role: 'admin' },
      ]),
    );
    expect(second.body.items).toMatchObject([
      { id: first.body.items[1].id, user_id: a.id, role: 'viewer' },
      { user_id: b.id, role: 'admin' },
    ]);
    expect(
      (await owner.client.get(`/tenants/acme/kbs/${kb.id}/grants?page_size=1&page=2`)).body,
    ).toMatchObject({
      items: [{ user_id: b.id }],
      total: 2,
      page: 2,
    });
    expect((await put([])).body).toEqual({ items: [], total: 0 });
    const entries = (await tenantAudit(app, acme.id, 'grant')).filter(
      entry => entry.details['kb_id'] === kb.id,
    );
    expect(entries.map(entry => [entry.action, entry.details['role']])).toEqual([
      ['grant.created', 'editor'],
      ['grant.created', 'viewer'],
      ['grant.deleted', 'viewer'],
      ['grant.updated', 'viewer'],
      ['grant.created', 'admin'],
      ['grant.deleted', 'viewer'],
      ['grant.deleted', 'admin'],
    ]);
  });

  it('are refused where they name nobody, no role, or somebody twice', async () => {
    const stranger = await person('viewer', 'elsewhere');
    const foreign = (await expectStatus(201, app.admin.post('/tenants/elsewhere/groups', { name: 'Theirs' })))
      .body;
    const member = await person('viewer');
    const refused = await owner.client.put('/tenants/acme/kbs/docs/grants', {
      grants: [
        { user_id: member.id, role: 'viewer' },
        { user_id: stranger.id, role: 'viewer' },
        { user_id: NOBODY, role: 'absent' },
        { group_id: foreign.id, role: 'viewer' },
        { group_id: NOBODY, role: 'viewer' },
      ],
    });
    expectProblem(refused, 422, 'validation_failed');
    expect(errorsOf(refused)).toEqual([
      'grants.1.user_id unknown_member',
      'grants.2.role unknown_role',
      'grants.2.user_id unknown_member',
      'grants.3.group_id unknown_group',
      'grants.4.group_id unknown_group',
    ]);
    for (const role of ['platform_admin', 'platform_auditor', 'self', member.id, 'Owner']) {
      const answer = await grant('docs', { user_id: member.id, role });
      expectProblem(answer, 422, 'validation_failed');
      expect(errorsOf(answer)).toEqual(['role unknown_role']);
    }
    const twice = await owner.client.put('/tenants/acme/kbs/docs/grants', {
      grants: [
        { user_id: member.id, role: 'viewer' },
        { user_id: member.id.toUpperCase(), role: 'editor' },
      ],
    });
    expect(errorsOf(twice)).toEqual(['grants.1.user_id repeated']);
    for (const body of [{ role: 'viewer' }, { user_id: member.id, group_id: NOBODY, role: 'viewer' }]) {
      expectProblem(await owner.client.post('/tenants/acme/kbs/docs/grants', body), 422, 'validation_failed');
    }
    expectProblem(await owner.client.delete(`/tenants/acme/kbs/docs/grants/${NOBODY}`), 404, 'not_found');
    expectProblem(await grant('absent', { user_id: member.id, role: 'viewer' }), 404, 'not_found');
  });

  it('give and take nothing that is above one’s own', async () => {
    const [editor, viewer] = [await person('editor'), await person('viewer')];
    const kb = await makeKb('Ranks', {}, editor.client);
    const asEditor = (role: string) => grant(kb.id, { user_id: viewer.id, role }, editor.client);
    expectProblem(await asEditor('admin'), 403, 'role_above_own');
    expectProblem(await asEditor('owner'), 403, 'role_above_own');
    expect((await asEditor('editor')).body.role).toBe('editor');
    const given = await expectStatus(201, grant(kb.id, { user_id: viewer.id, role: 'admin' }));
    expectProblem(await asEditor('viewer'), 403, 'role_above_own');
    expectProblem(
      await editor.client.delete(`/tenants/acme/kbs/${kb.id}/grants/${given.body.id}`),
      403,
      'role_above_own',
    );
    expectProblem(
      await editor.client.put(`/tenants/acme/kbs/${kb.id}/grants`, { grants: [] }),
      403,
      'role_above_own',
    );
    // The viewer has more here now than the editor, may give it on, and give it up.
    expect((await grant(kb.id, { user_id: editor.id, role: 'admin' }, viewer.client)).status).toBe(201);
    expect((await viewer.client.delete(`/tenants/acme/kbs/${kb.id}/grants/${given.body.id}`)).status).toBe(
      204,
    );
    expectProblem(await viewer.client.get(`/tenants/acme/kbs/${kb.id}/grants`), 403, 'forbidden');
    // What a grant gives in one knowledge base gives nothing in another, nor in the tenant.
    await expectStatus(201, grant(kb.id, { user_id: viewer.id, role: 'owner' }));
    expectProblem(await viewer.client.post('/tenants/acme/groups', { name: 'No' }), 403, 'forbidden');
    expectProblem(await viewer.client.get('/tenants/acme/kbs/docs/grants'), 403, 'forbidden');
    expectProblem(await viewer.client.patch('/tenants/acme', { description: 'x' }), 403, 'forbidden');
  });

  it('keep their order when two change them at once', async () => {
    const members = await Promise.all([1, 2, 3, 4].map(() => person('viewer')));
    const kb = await makeKb('Contended');
    const answers = await Promise.all(
      members.map(({ id }) =>
        owner.client.put(`/tenants/acme/kbs/${kb.id}/grants`, { grants: [{ user_id: id, role: 'viewer' }] }),
      ),
    );
    for (const answer of answers.filter(({ status }) => status !== 200)) {
      expectProblem(answer, 409, 'changed_meanwhile');
    }
    const { body } = await owner.client.get(`/tenants/acme/kbs/${kb.id}/grants`);
    expect(body.total).toBe(1);
  });

  it('are gone for what had begun before they were taken', async () => {
    const member = await person('viewer');
    const kb = await makeKb('Closing', { visibility: 'granted' });
    const given = await expectStatus(201, grant(kb.id, { user_id: member.id, role: 'editor' }));
    const upload = begunUpload(
      member.client,
      `/tenants/acme/kbs/${kb.id}/documents`,
      'Sent before, whole after.',
    );
    const incoming = joinPath(app.env.dataDir, 'files', '.incoming');
    await expect.poll(() => (existsSync(incoming) ? readdirSync(incoming).length : 0)).toBe(1);
    await expectStatus(204, owner.client.delete(`/tenants/acme/kbs/${kb.id}/grants/${given.body.id}`));
    expectProblem(await upload.end(), 403, 'forbidden');
    const { body } = await expectStatus(200, owner.client.get(`/tenants/acme/kbs/${kb.id}/documents`));
    expect(body.total).toBe(0);
  });
});
