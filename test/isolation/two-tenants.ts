import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { BUILT_IN_ROLES, TENANT_PERMISSIONS } from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import type { Ids } from '../setup/route-calls.js';
import { rowsOfTenant } from '../setup/rows-of-tenant.js';
import { usageOf } from '../setup/usage-events.js';

export const MODEL_TYPES = ['asr', 'chat', 'embedding', 'image2text', 'rerank', 'tts'];

export interface TwoTenants {
  routes: GuardedRoute[];
  /** What tenant A has, the victim. */
  a: Ids;
  /** What tenant B has, whose people try. */
  b: Ids;
  /** Every id in a row of tenant A. */
  secrets: string[];
  /** Of those who try: by their role in tenant B, or what else they are. */
  credentials: Map<string, Client>;
  /** Of every row and every file of tenant A. */
  checksum: () => Promise<string>;
}

export async function addTwoTenants(app: TestApplication): Promise<TwoTenants> {
  const [a, b] = [await createTenant(app, 'victim'), await createTenant(app, 'intruder')];
  const credentials = new Map<string, Client>();
  for (const role of BUILT_IN_ROLES) {
    await app.createMember('victim', role);
    credentials.set(role, (await app.createMember('intruder', role)).client);
  }
  const owner = credentials.get('owner') as Client;
  const scopes = TENANT_PERMISSIONS;
  credentials.set(
    'API token',
    (await issueToken(app, owner, 'intruder', { scopes, rate_limit_per_minute: 1_000_000 })).client,
  );
  credentials.set('stranger', (await app.createUser()).client);
  credentials.set('platform admin', app.admin);
  const routes = app.application.nest.get(RouteAccess, { strict: false }).list();
  // What these requests have used is written down by and by.
  await usageOf(app).flush();
  const tenant = a['tenant'] as string;
  const secrets = await idsOf(app, tenant);
  return { routes, a, b, secrets, credentials, checksum: () => checksum(app, tenant) };
}

async function createTenant(app: TestApplication, name: string): Promise<Ids> {
  const tenant = await app.createTenant(name);
  const slug = `plans-of-${name}`;
  const { body: kb } = await app.admin.post(`/tenants/${name}/kbs`, {
    name: slug,
    config: { graph: 'names' },
  });
  const text = `# Launch\n\nThe launch code of the ${name} is four eight fifteen, as Ada Lovelace knows.`;
  const { body: document } = await app.admin.post(`/tenants/${name}/kbs/${slug}/documents/text`, { text });
  await app.settled(name, document.id, slug);
  await app.addText(name, `The warranty of the ${name} lasts two years.`);
  const member = await app.createMember(name, 'viewer');
  const made = async (path: string, body: unknown) =>
    (await expectStatus(201, app.admin.post(`/tenants/${name}${path}`, body))).body;
  const role = await made('/roles', { name: `support-of-${name}`, permissions: ['tenant:read'] });
  const group = await made('/groups', { name: `Group of ${name}` });
  await app.admin.post(`/tenants/${name}/groups/${group.id}/members`, { user_id: member.id });
  const grant = await made(`/kbs/${slug}/grants`, { group_id: group.id, role: 'editor' });
  const invitation = await made('/invitations', { email: `guest-of-${name}@example.com`, role: 'viewer' });
  const variable = `KEY_OF_${name.toUpperCase()}`;
  await app.admin.put(`/tenants/${name}/variables/${variable}`, { value: 'a secret' });
  await app.admin.post('/tenant-templates', { name: `template-of-${name}` });
  const token = await made('/api-tokens', { name: `token of ${name}`, scopes: ['query:run'] });
  const webhook = await made('/webhooks', {
    url: 'https://hooks.invalid/x',
    events: ['*'],
    is_active: false,
  });
  const { body: delivery } = await app.admin.post(`/tenants/${name}/webhooks/${webhook.id}/test`);
  const alert = await made('/alerts', {
    name: `Alert of ${name}`,
    metric: 'users',
    threshold: 1_000,
    threshold_type: 'absolute',
    actions: ['webhook'],
    is_active: false,
  });
  const models: Ids = {};
  for (const model_type of MODEL_TYPES) {
    const fields = { ...EXAMPLE_BODIES['POST /tenants/:tenant/models']?.(), model_type };
    const model = await made('/models', fields);
    models[`model ${model_type}`] = model.id;
    if (model_type === 'chat') Object.assign(models, { model: model.id, 'model name': model.model_name });
  }
  const agent = await made(`/kbs/${slug}/agents`, { name: `Agent of ${name}` });
  const question = { message: 'What is the launch code?', mode: 'keyword' };
  const { body: chat } = await expectStatus(
    200,
    app.admin.post(`/tenants/${name}/kbs/${slug}/chat`, question),
  );
  const { body: entities } = await app.admin.get(`/tenants/${name}/kbs/${slug}/graph/entities`);
  const sessions = await expectStatus(200, member.client.get('/auth/sessions'));
  return {
    tenant: tenant.id,
    'tenant name': name,
    kb: kb.id,
    'kb slug': slug,
    document: document.id,
    user: member.id,
    role: role.name,
    group: group.id,
    grant: grant.id,
    invitation: invitation.id,
    variable,
    template: `template-of-${name}`,
    session: sessions.body.items[0].id,
    job: await settledJob(app, tenant.id),
    token: token.id,
    webhook: webhook.id,
    delivery: delivery.id,
    alert: alert.id,
    ...models,
    agent: agent.id,
    chat: chat.session_id,
    message: chat.message_id,
    evaluation: await endedEvaluation(app, name, slug),
    entity: entities.items[0].id,
  };
}

/** It changes by itself until it has ended. */
async function endedEvaluation(app: TestApplication, tenant: string, kb: string): Promise<string> {
  const example = EXAMPLE_BODIES['POST /tenants/:tenant/kbs/:kb/evaluations']?.();
  const made = await expectStatus(202, app.admin.post(`/tenants/${tenant}/kbs/${kb}/evaluations`, example));
  const { id, job_id: job } = made.body;
  await app.jobEnded(`/jobs/${job}`);
  return id;
}

/** The e-mail of the invitation, once it has been sent: until then its row changes by itself. */
async function settledJob(app: TestApplication, tenantId: string): Promise<string> {
  for (let waited = 0; waited < 20_000; waited += 50) {
    const ended = (await rowsOfTenant(app, tenantId))['jobs']?.find(row => row.includes(',succeeded,'));
    if (ended) return ended.slice(1, 37);
    await sleep(50);
  }
  throw new Error('The e-mail of the invitation has not been sent in 20 s.');
}

/** Of every row and every file of a tenant. */
async function checksum(app: TestApplication, id: string): Promise<string> {
  const rows = await rowsOfTenant(app, id);
  const folder = join(app.env.dataDir, 'files', id);
  const names = existsSync(folder) ? readdirSync(folder, { recursive: true, withFileTypes: true }) : [];
  const files = names
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .toSorted()
    .map(path => [path, createHash('sha256').update(readFileSync(path)).digest('hex')]);
  expect(files.length, 'files of tenant A').toBe(2);
  return JSON.stringify([rows, files], null, 1);
}

/** Every id in a row of this tenant, its members' too. */
async function idsOf(app: TestApplication, tenantId: string): Promise<string[]> {
  const text = JSON.stringify(await rowsOfTenant(app, tenantId));
  const found = new Set(text.match(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g));
  // Whoever set both tenants up stands in both.
  const { body: admin } = await app.admin.get('/auth/me');
  found.delete(admin.id);
  expect(found.size).toBeGreaterThan(10);
  return [...found];
}
