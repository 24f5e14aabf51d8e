import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { tenantAudit } from '../setup/tenant-audit.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;
let acme: { id: string };
let owner: { id: string; client: Client };

beforeAll(async () => {
  app = await startTestApplication();
  acme = await app.createTenant('acme');
  owner = await app.createMember('acme', 'owner');
});
afterAll(() => app?.close());

const makeRole = (name: string, permissions: string[], by = owner.client) =>
  by.post('/tenants/acme/roles', { name, permissions });

describe('roles of a tenant', () => {
  it('are listed with the built-in ones, with what they may do and how many have them', async () => {
    const { body } = await expectStatus(200, owner.client.get('/tenants/acme/roles'));
    expect(body.items.map((role: { name: string }) => role.name)).toEqual([
      'owner',
      'admin',
      'editor',
      'viewer',
      'viewer_readonly',
    ]);
    expect(body.items[4]).toEqual({
      name: 'viewer_readonly',
      description: '',
      built_in: true,
      permissions: ['tenant:read', 'query:run', 'chat:own'],
      member_count: 0,
      created_by: null,
      created_at: null,
      updated_at: null,
    });
    // The platform admin who made the tenant is its first owner.
    expect(body.items[0]).toMatchObject({ name: 'owner', member_count: 2 });
    expect((await owner.client.get('/tenants/acme/roles/editor')).body).toMatchObject({ built_in: true });
    expectProblem(await owner.client.get('/tenants/acme/roles/absent'), 404, 'not_found');
  });

  it('are made, read, changed, replaced and deleted', async () => {
    const made = await expectStatus(
      201,
      owner.client.post('/tenants/acme/roles', {
        name: 'support',
        description: 'Answers customers',
        permissions: ['query:run', 'tenant:read', 'document:read', 'query:run'],
      }),
    );
    expect(made.body).toMatchObject({
      name: 'support',
      description: 'Answers customers',
      built_in: false,
      permissions: ['tenant:read', 'document:read', 'query:run'],
      member_count: 0,
      created_by: owner.id,
    });
    expect((await owner.client.get('/tenants/acme/roles/support')).body).toEqual(made.body);
    expect((await owner.client.get('/tenants/acme/roles?search=custom')).body.items).toMatchObject([
      { name: 'support' },
    ]);
    const patched = await expectStatus(
      200,
      owner.client.patch('/tenants/acme/roles/support', { permissions: ['tenant:read', 'kb:read'] }),
    );
    expect(patched.body).toMatchObject({
      description: 'Answers customers',
      permissions: ['tenant:read', 'kb:read'],
    });
    const replaced = await expectStatus(
      200,
      owner.client.put('/tenants/acme/roles/support', { description: '', permissions: [] }),
    );
    expect(replaced.body).toMatchObject({ description: '', permissions: [] });
    expectProblem(
      await owner.client.put('/tenants/acme/roles/support', { permissions: [] }),
      422,
      'validation_failed',
    );
    expect((await owner.client.delete('/tenants/acme/roles/support')).status).toBe(204);
    expectProblem(await owner.client.delete('/tenants/acme/roles/support'), 404, 'not_found');
    expectProblem(await owner.client.patch('/tenants/acme/roles/support', {}), 404, 'not_found');
  });

  it('take no name that is built in, reserved, malformed or taken', async () => {
    for (const name of ['owner', 'admin', 'editor', 'viewer', 'viewer_readonly']) {
      expectProblem(await makeRole(name, []), 409, 'name_taken');
      expectProblem(await owner.client.patch(`/tenants/acme/roles/${name}`, {}), 409, 'built_in_role');
      expectProblem(await owner.client.delete(`/tenants/acme/roles/${name}`), 409, 'built_in_role');
    }
    for (const name of [
      'self',
      'platform_admin',
      'platform_',
      'group_x',
      'a19aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11',
    ]) {
      const answer = await makeRole(name, []);
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path: 'name', code: 'reserved' }]);
    }
    for (const name of ['', 'Owner', 'öwner', 'ρоle', '1st', 'with space', 'a'.repeat(64), 'p,x', "a'b"]) {
      expectProblem(await makeRole(name, []), 422, 'validation_failed');
    }
    for (const permission of ['platform:tenants', 'user:read', 'tenant:everything', '*']) {
      expectProblem(await makeRole('too-much', [permission]), 422, 'validation_failed');
    }
    const both = await Promise.all([1, 2, 3].map(() => makeRole('wanted', ['tenant:read'])));
    expect(both.map(({ status }) => status).toSorted()).toEqual([201, 409, 409]);
    for (const { status, ...answer } of both.filter(one => one.status === 409)) {
      expectProblem({ status, ...answer }, 409, 'name_taken');
    }
  });

  it('give nobody what the giver does not hold', async () => {
    await expectStatus(
      201,
      makeRole('people', ['tenant:read', 'tenant:manage_members', 'kb:read', 'document:read']),
    );
    const people = await app.createMember('acme', 'people');
    expectProblem(await makeRole('mine', ['document:delete'], people.client), 403, 'role_above_own');
    expectProblem(await makeRole('mine', ['tenant:delete'], people.client), 403, 'role_above_own');
    await expectStatus(201, makeRole('mine', ['kb:read'], people.client));
    // Neither may they take from a role what they could not give, nor give themselves more.
    await expectStatus(201, makeRole('writer', ['document:create', 'kb:read']));
    expectProblem(
      await people.client.patch('/tenants/acme/roles/writer', { permissions: ['kb:read'] }),
      403,
      'role_above_own',
    );
    expectProblem(
      await people.client.patch('/tenants/acme/roles/people', {
        permissions: ['tenant:read', 'tenant:manage_members', 'tenant:manage'],
      }),
      403,
      'role_above_own',
    );
    expect((await people.client.patch('/tenants/acme/roles/writer', { description: 'x' })).status).toBe(200);
    // An admin holds all but what is the owners'.
    const admin = await app.createMember('acme', 'admin');
    expectProblem(await makeRole('billing', ['tenant:manage_billing'], admin.client), 403, 'role_above_own');
    await expectStatus(201, makeRole('billing', ['tenant:manage_billing']));
    const viewer = await app.createMember('acme', 'viewer');
    expectProblem(await makeRole('nothing', [], viewer.client), 403, 'forbidden');
    expect((await viewer.client.get('/tenants/acme/roles')).status).toBe(200);
  });

  it('allow what they say, and what they are changed to at once', async () => {
    await expectStatus(201, makeRole('reader', ['tenant:read', 'kb:read']));
    const reader = await app.createMember('acme', 'reader');
    expect((await reader.client.get('/tenants/acme/kbs')).body.total).toBe(1);
    expectProblem(await reader.client.get('/tenants/acme/kbs/docs/documents'), 403, 'forbidden');
    expect((await owner.client.get('/tenants/acme/roles/reader')).body.member_count).toBe(1);

    await owner.client.patch('/tenants/acme/roles/reader', {
      permissions: ['tenant:read', 'document:read'],
    });
    expectProblem(await reader.client.get('/tenants/acme/kbs'), 403, 'forbidden');
    expect((await reader.client.get('/tenants/acme/kbs/docs/documents')).status).toBe(200);
    await owner.client.patch('/tenants/acme/roles/reader', { permissions: [] });
    expectProblem(await reader.client.get('/tenants/acme/kbs/docs/documents'), 403, 'forbidden');
    expectProblem(await reader.client.get('/tenants/acme'), 403, 'forbidden');
  });

  it('stay while somebody has them', async () => {
    await expectStatus(201, makeRole('held', ['tenant:read']));
    const member = await app.createMember('acme', 'held');
    const grant = await expectStatus(
      201,
      owner.client.post('/tenants/acme/kbs/docs/grants', { user_id: member.id, role: 'held' }),
    );
    const answer = await owner.client.delete('/tenants/acme/roles/held');
    expectProblem(answer, 409, 'role_in_use');
    expect(answer.body).toMatchObject({ members: 1, grants: 1, invitations: 0 });
    await expectStatus(200, owner.client.patch(`/tenants/acme/members/${member.id}`, { role: 'viewer' }));
    expect((await owner.client.delete('/tenants/acme/roles/held')).body).toMatchObject({
      members: 0,
      grants: 1,
    });
    await expectStatus(204, owner.client.delete(`/tenants/acme/kbs/docs/grants/${grant.body.id}`));
    expect((await owner.client.delete('/tenants/acme/roles/held')).status).toBe(204);
    expectProblem(
      await owner.client.patch(`/tenants/acme/members/${member.id}`, { role: 'held' }),
      422,
      'validation_failed',
    );
  });

  it('are not given while they are being deleted', async () => {
    await app.createTenant('race');
    const member = await app.createMember('race', 'viewer');
    for (let round = 0; round < 5; round++) {
      await expectStatus(
        201,
        app.admin.post('/tenants/race/roles', { name: 'fleeting', permissions: ['tenant:read'] }),
      );
      const [deleted, given] = await Promise.all([
        app.admin.delete('/tenants/race/roles/fleeting'),
        app.admin.post('/tenants/race/kbs/docs/grants', { user_id: member.id, role: 'fleeting' }),
      ]);
      expect([
        [204, 422],
        [409, 201],
      ]).toContainEqual([deleted.status, given.status]);
      if (given.status === 201) {
        await expectStatus(204, app.admin.delete(`/tenants/race/kbs/docs/grants/${given.body.id}`));
        await expectStatus(204, app.admin.delete('/tenants/race/roles/fleeting'));
      }
    }
  });

  it('of another tenant are nobody’s', async () => {
    await app.createTenant('other');
    await expectStatus(201, makeRole('secret', ['tenant:read']));
    for (const answer of [
      await app.admin.get('/tenants/other/roles/secret'),
      await app.admin.patch('/tenants/other/roles/secret', { permissions: [] }),
      await app.admin.delete('/tenants/other/roles/secret'),
    ]) {
      expectProblem(answer, 404, 'not_found');
    }
    expect((await app.admin.get('/tenants/other/roles?search=secret')).body.total).toBe(0);
    expect((await app.admin.get('/tenants/acme/roles/secret')).body.permissions).toEqual(['tenant:read']);
  });

  it('are written down in the audit', async () => {
    await expectStatus(201, makeRole('traced', ['tenant:read']));
    await expectStatus(
      200,
      app.admin.patch('/tenants/acme/roles/traced', { permissions: ['kb:read'], description: 'Changed' }),
    );
    await expectStatus(204, app.admin.delete('/tenants/acme/roles/traced'));
    const entries = await tenantAudit(app, acme.id, 'role');
    expect(entries.filter(entry => entry.resource_id === 'traced')).toMatchObject([
      { action: 'role.created', actor_id: owner.id, details: { permissions: ['tenant:read'] } },
      {
        action: 'role.updated',
        details: {
          before: { description: '', permissions: ['tenant:read'] },
          after: { description: 'Changed', permissions: ['kb:read'] },
        },
      },
      { action: 'role.deleted', details: { description: 'Changed', permissions: ['kb:read'] } },
    ]);
  });

  it('can be switched off, and are limited in number', async () => {
    await app.createTenant('limited');
    const made = await Promise.all(
      Array.from({ length: 104 }, (_, index) =>
        app.admin.post('/tenants/limited/roles', { name: `role-${index}`, permissions: [] }),
      ),
    );
    expect(made.filter(({ status }) => status === 201)).toHaveLength(100);
    for (const answer of made.filter(({ status }) => status !== 201)) {
      expectProblem(answer, 409, 'too_many_roles');
    }
    await app.restart({ FEATURES: JSON.stringify({ custom_roles: false }) });
    expectProblem(
      await app.admin.post('/tenants/race/roles', { name: 'new', permissions: [] }),
      403,
      'feature_disabled',
    );
    expectProblem(await app.admin.patch('/tenants/limited/roles/role-1', {}), 403, 'feature_disabled');
    expect((await app.admin.delete('/tenants/limited/roles/role-1')).status).toBe(204);
  });
});
