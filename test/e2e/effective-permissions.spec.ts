import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';

interface Person {
  id: string;
  client: Client;
}

interface Item {
  permission: string;
  allowed: boolean;
  because: Array<{ role: string; source: string; group?: string; kb?: string; text: string }>;
  why_not: string | null;
}

let app: TestApplication;
let owner: Person;
const people: Record<string, Person> = {};

const KBS = ['docs', 'widened', 'closed', 'sealed'];

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('acme');
  owner = await app.createMember('acme', 'owner');
  for (const name of ['widened', 'closed', 'sealed']) {
    await expectStatus(201, owner.client.post('/tenants/acme/kbs', { name }));
  }
  for (const role of ['admin', 'editor', 'viewer', 'viewer_readonly']) {
    people[role] = await app.createMember('acme', role);
  }
  await expectStatus(
    201,
    owner.client.post('/tenants/acme/roles', {
      name: 'librarian',
      permissions: ['tenant:read', 'tenant:manage_members', 'document:create', 'document:read'],
    }),
  );
  people['librarian'] = await app.createMember('acme', 'librarian');
  people['grouped'] = await app.createMember('acme', 'viewer_readonly');
  people['owner'] = owner;
  const { body: group } = await expectStatus(
    201,
    owner.client.post('/tenants/acme/groups', { name: 'support' }),
  );
  await expectStatus(
    201,
    owner.client.post(`/tenants/acme/groups/${group.id}/members`, { user_id: people['grouped'].id }),
  );
  const grants = {
    widened: [
      { group_id: group.id, role: 'admin' },
      { user_id: people['viewer']!.id, role: 'editor' },
    ],
    closed: [
      { group_id: group.id, role: 'editor' },
      { user_id: people['editor']!.id, role: 'viewer' },
      { user_id: people['admin']!.id, role: 'viewer_readonly' },
    ],
  };
  for (const [kb, given] of Object.entries(grants)) {
    await expectStatus(200, owner.client.put(`/tenants/acme/kbs/${kb}/grants`, { grants: given }));
  }
  for (const kb of ['closed', 'sealed']) {
    await expectStatus(200, owner.client.patch(`/tenants/acme/kbs/${kb}`, { visibility: 'granted' }));
  }
});
afterAll(() => app?.close());

const explain = (of: Person, kb?: string, by = owner.client) =>
  by.get(`/tenants/acme/members/${of.id}/permissions${kb ? `?kb=${kb}` : ''}`);
const itemsOf = async (of: Person, kb?: string): Promise<Map<string, Item>> => {
  const { body } = await expectStatus(200, explain(of, kb));
  return new Map(body.items.map((item: Item) => [item.permission, item]));
};

const NOBODY = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';

/** A request for each permission of a knowledge base: 403 without it, 404 where the knowledge base is not seen. */
const IN_KB: Record<string, (client: Client, kb: string) => Promise<{ status: number }>> = {
  'kb:read': (client, kb) => client.get(`/tenants/acme/kbs/${kb}`),
  'kb:update': (client, kb) => client.get(`/tenants/acme/kbs/${kb}/grants`),
  'document:read': (client, kb) => client.get(`/tenants/acme/kbs/${kb}/documents`),
  'document:create': (client, kb) =>
    client.post(`/tenants/acme/kbs/${kb}/documents/text`, { text: 'One text.' }),
  'document:update': (client, kb) =>
    client.patch(`/tenants/acme/kbs/${kb}/documents/${NOBODY}`, { title: 'x' }),
  'document:delete': (client, kb) => client.delete(`/tenants/acme/kbs/${kb}/documents/${NOBODY}`),
  'query:run': (client, kb) => client.post(`/tenants/acme/kbs/${kb}/search`, { query: 'x', mode: 'keyword' }),
};
/** Those whose 404 can be of nothing else. */
const LOOKS = ['kb:read', 'document:read', 'query:run'];
const IN_TENANT: Record<string, (client: Client) => Promise<{ status: number }>> = {
  'tenant:read': client => client.get('/tenants/acme'),
  'tenant:manage': client => client.patch('/tenants/acme', {}),
  'tenant:manage_members': client => client.post('/tenants/acme/groups', {}),
  'kb:read': client => client.get('/tenants/acme/kbs'),
  'kb:create': client => client.post('/tenants/acme/kbs', {}),
};

describe('what a member may do', () => {
  it.each(KBS)('is what requests to the knowledge base %s are answered with', async kb => {
    const wrong: string[] = [];
    for (const [name, person] of Object.entries({ ...people, platform: { ...owner, client: app.admin } })) {
      const of = name === 'platform' ? await self(app.admin) : person;
      const items = await itemsOf(of, kb);
      const looks = await Promise.all(LOOKS.map(permission => IN_KB[permission]!(person.client, kb)));
      const readable = looks.every(({ status }) => status !== 404);
      for (const [permission, request] of Object.entries(IN_KB)) {
        const { status } = await request(person.client, kb);
        const { allowed, because, why_not: whyNot } = items.get(permission) as Item;
        // A 404 is of the knowledge base where it is not seen at all, else of the document that does not exist.
        const may = status !== 403 && readable;
        if (may !== allowed) wrong.push(`${name} ${permission} ${kb}: ${status}, said ${String(allowed)}`);
        if (allowed !== because.length > 0) wrong.push(`${name} ${permission} ${kb}: no reason`);
        if (allowed !== (whyNot === null)) wrong.push(`${name} ${permission} ${kb}: ${whyNot}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('in the tenant is what requests to it are answered with', async () => {
    for (const [name, person] of Object.entries(people)) {
      const items = await itemsOf(person);
      for (const [permission, request] of Object.entries(IN_TENANT)) {
        const { status } = await request(person.client);
        const { allowed, because } = items.get(permission) as Item;
        expect({ name, permission, allowed: status !== 403 }).toEqual({ name, permission, allowed });
        expect(because.length > 0).toBe(allowed);
      }
    }
  });

  const self = async (client: Client): Promise<Person> => {
    const { body } = await expectStatus(200, client.get('/auth/me'));
    return { id: (body.user ?? body).id, client };
  };

  it('is explained by role, grant, group and platform', async () => {
    const reasons = async (of: Person, permission: string, kb?: string) =>
      (await itemsOf(of, kb)).get(permission)?.because.map(({ text }) => text);
    expect(await reasons(people['viewer']!, 'document:read', 'widened')).toEqual([
      'viewer in the tenant',
      'editor granted on kb widened',
    ]);
    expect(await reasons(people['viewer']!, 'document:create', 'widened')).toEqual([
      'editor granted on kb widened',
    ]);
    expect(await reasons(people['grouped']!, 'chat:read_all', 'widened')).toEqual([
      'admin via group support on kb widened',
    ]);
    expect((await reasons(people['grouped']!, 'kb:read'))?.toSorted()).toEqual([
      'admin via group support on kb widened',
      'editor via group support on kb closed',
    ]);
    expect(await reasons(people['editor']!, 'kb:read', 'closed')).toEqual(['viewer granted on kb closed']);
    const admin = await self(app.admin);
    expect(await reasons(admin, 'kb:read', 'docs')).toEqual([
      'owner in the tenant',
      'platform_admin of the platform',
    ]);
    const { body } = await expectStatus(200, explain(people['grouped']!, 'closed'));
    expect(body).toMatchObject({
      user_id: people['grouped']!.id,
      kb: 'closed',
      roles: ['viewer_readonly'],
      groups: [{ name: 'support' }],
      sees_all: false,
    });
    expect(body.items.find((item: Item) => item.permission === 'kb:update').because).toEqual([
      {
        role: 'editor',
        source: 'group',
        group: 'support',
        kb: 'closed',
        text: 'editor via group support on kb closed',
      },
    ]);
  });

  it('is explained where it is not allowed', async () => {
    const whyNot = async (of: Person, permission: string, kb?: string) =>
      (await itemsOf(of, kb)).get(permission)?.why_not;
    expect(await whyNot(people['editor']!, 'kb:read', 'sealed')).toBe(
      'The kb sealed is closed, and no role on it was granted to the member or their groups.',
    );
    expect(await whyNot(people['editor']!, 'kb:update', 'closed')).toBe(
      'The kb closed is closed, so only roles granted on it count, and none of them gives this.',
    );
    expect(await whyNot(people['viewer']!, 'kb:delete', 'docs')).toBe(
      'No role in the tenant and none granted on kb docs gives this.',
    );
    expect(await whyNot(people['viewer']!, 'tenant:manage')).toBe('No role in the tenant gives this.');
    expect(await whyNot(people['viewer']!, 'kb:create', 'widened')).toBe('No role in the tenant gives this.');
  });

  it('is shown to oneself, and to those who manage members', async () => {
    const { viewer, editor, librarian } = people as Record<string, Person> & { viewer: Person };
    expect((await explain(viewer, undefined, viewer.client)).status).toBe(200);
    expectProblem(await explain(editor!, undefined, viewer.client), 403, 'forbidden');
    expectProblem(await explain({ ...editor!, id: NOBODY }, undefined, viewer.client), 403, 'forbidden');
    expect((await explain(editor!, undefined, librarian!.client)).status).toBe(200);
    // What is not there for the one who asks is not explained to them.
    for (const kb of ['sealed', 'absent', NOBODY]) {
      expectProblem(await explain(viewer, kb, viewer.client), 404, 'not_found');
    }
    await app.createTenant('elsewhere');
    const stranger = await app.createMember('elsewhere', 'viewer');
    for (const id of [stranger.id, NOBODY, 'nonsense']) {
      expectProblem(await explain({ ...stranger, id }), 404, 'not_found');
    }
    expectProblem(
      await owner.client.get(`/tenants/acme/members/${viewer.id}/permissions?kb=`),
      422,
      'validation_failed',
    );
    expectProblem(
      await owner.client.get(`/tenants/acme/members/${viewer.id}/permissions?other=1`),
      422,
      'validation_failed',
    );
  });

  it('changes at once with roles, grants and groups', async () => {
    const person = await app.createMember('acme', 'viewer');
    const may = async (permission: string, kb: string) =>
      (await itemsOf(person, kb)).get(permission)?.allowed;
    expect(await may('query:run', 'sealed')).toBe(false);
    const grant = await expectStatus(
      201,
      owner.client.post('/tenants/acme/kbs/sealed/grants', { user_id: person.id, role: 'viewer_readonly' }),
    );
    expect(await may('query:run', 'sealed')).toBe(true);
    expect(await may('kb:read', 'sealed')).toBe(false);
    await expectStatus(204, owner.client.delete(`/tenants/acme/kbs/sealed/grants/${grant.body.id}`));
    expect(await may('query:run', 'sealed')).toBe(false);
    await expectStatus(200, owner.client.patch(`/tenants/acme/members/${person.id}`, { role: 'admin' }));
    expect(await may('kb:update', 'sealed')).toBe(true);
  });
});
