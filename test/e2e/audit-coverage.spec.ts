import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RouteAccess } from '../../src/core/authorization/route-access.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { asSuperuser } from '../setup/superuser.js';

/** What changes nothing that anybody has to answer for, and why. */
const EXCEPTIONS: Record<string, string> = {
  'POST /tenants/:tenant/kbs/:kb/search': 'reads',
  'POST /tenants/:tenant/kbs/:kb/query': 'reads',
  'POST /tenants/:tenant/query': 'reads',
  'POST /tenants/:tenant/kbs/:kb/chat': 'reads, and what was said stands in the chat',
  'POST /chat': 'the same',
  'POST /tenants/:tenant/kbs/:kb/documents/preview': 'reads',
  'POST /tenants/:tenant/models/:model/test': 'tries a model, and changes nothing',
  'POST /platform/models/:model/test': 'tries a model, and changes nothing',
  'POST /platform/queues/session': 'lets a browser see what GET /platform/queues shows, where there is Redis',
  'POST /auth/refresh': 'goes on with a session whose beginning stands in the audit',
  'POST /auth/switch-tenant':
    'says where the next requests go; the membership that lets them in stands in the audit',
  'POST /auth/forgot-password':
    'is answered before anybody knows whether there is such an account; what comes of it is a job',
};

interface Person {
  id: string;
  client: Client;
}

/** How a route is called so that it succeeds. */
interface Call {
  /** The owner of the tenant where it is missing; null: nobody. */
  as?: Person | null;
  /** What the path names. The tenant, the knowledge base `docs` and nothing else where it is missing. */
  ids?: Record<string, string>;
  /** The example where it is missing. */
  body?: unknown;
  headers?: Record<string, string>;
}

interface Entry {
  chain: string;
  sequence: number;
  actor_type: string;
  actor_id: string | null;
  action: string;
  outcome: string;
}

let app: TestApplication;
let owner: Person;
let admin: Person;
let tenantId: string;

beforeAll(async () => {
  app = await startTestApplication();
  tenantId = (await app.createTenant('acme')).id;
  owner = await app.createMember('acme', 'owner');
  admin = { id: (await app.admin.get('/auth/me')).body.id, client: app.admin };
});
afterAll(() => app?.close());

const superuser = (statement: string): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement)).rows,
  );

const made = async (path: string, body: unknown, as = owner) =>
  (await expectStatus(201, as.client.post(path, body))).body;
const member = () => app.createMember('acme', 'viewer');
const unique = (prefix: string) => `${prefix}-${randomUUID().slice(0, 8)}`;
const role = async () =>
  (await made('/tenants/acme/roles', { name: unique('role'), permissions: ['tenant:read'] })).name;
const group = async () => (await made('/tenants/acme/groups', { name: unique('group') })).id;
const apiToken = async (): Promise<string> => {
  const body = { name: unique('token'), scopes: ['query:run'] };
  const { id, secret } = await made('/tenants/acme/api-tokens', body);
  secrets.add(secret);
  return id;
};
const alert = async () =>
  (await made('/tenants/acme/alerts', EXAMPLE_BODIES['POST /tenants/:tenant/alerts']?.())).id;
const model = async () => {
  const api_key = SECRET.replaceAll(' ', '-');
  secrets.add(api_key);
  return (
    await made('/tenants/acme/models', { ...EXAMPLE_BODIES['POST /tenants/:tenant/models']?.(), api_key })
  ).id;
};
const platformModel = async () =>
  (await made('/platform/models', EXAMPLE_BODIES['POST /platform/models']?.(), admin)).id;
const kb = async () => (await made('/tenants/acme/kbs', { name: unique('kb') })).slug;
const tenant = async () => (await made('/tenants', { name: unique('t') }, admin)).name;
const template = async () => (await made('/tenant-templates', { name: unique('template') }, admin)).name;
const document = async () => (await app.addText('acme', `A text, ${randomUUID()}.`)).id;
const agent = async () => (await made('/tenants/acme/kbs/docs/agents', { name: unique('agent') })).slug;
const chat = async () => {
  const body = { message: 'warranty', mode: 'keyword' };
  const answer = await expectStatus(200, owner.client.post('/tenants/acme/kbs/docs/chat', body));
  return { chat: answer.body.session_id as string, message: answer.body.message_id as string };
};
/** In a knowledge base of its own: each has room for a few. */
const waitingEvaluation = async () => {
  const slug = await kb();
  const body = EXAMPLE_BODIES['POST /tenants/:tenant/kbs/:kb/evaluations']?.();
  const started = await expectStatus(202, owner.client.post(`/tenants/acme/kbs/${slug}/evaluations`, body));
  const { id, job_id: job } = started.body;
  // As if its turn had not come yet.
  await app.jobEnded(`/jobs/${job}`);
  await superuser(`UPDATE evaluations SET status = 'queued' WHERE id = '${id}'`);
  return { kb: slug, evaluation: id as string };
};
const variable = async () => {
  await expectStatus(200, owner.client.put('/tenants/acme/variables/API_KEY', { value: SECRET }));
  return 'API_KEY';
};
const grant = async (): Promise<string> => {
  const { id } = await member();
  return (await made('/tenants/acme/kbs/docs/grants', { user_id: id, role: 'editor' })).id;
};
const invitation = async (email = `${unique('guest')}@example.com`) => {
  const { id } = await made('/tenants/acme/invitations', { email, role: 'viewer' });
  return { id: id as string, email };
};
const webhook = async (): Promise<string> => {
  const { id, secret } = await made('/tenants/acme/webhooks', {
    url: 'https://hooks.invalid/',
    events: ['kb.*'],
    headers: { 'x-key': SECRET },
  });
  secrets.add(secret);
  return id;
};
const delivered = async () => {
  const id = await webhook();
  const { body } = await expectStatus(200, owner.client.post(`/tenants/acme/webhooks/${id}/test`));
  return { webhook: id, delivery: body.id as string };
};
/** The token in the newest of `count` e-mails to an address. */
const mailed = async (email: string, count = 1): Promise<string> => {
  const token = tokenIn(await mailFolder(app.env.dataDir).waitFor(email, count));
  secrets.add(token);
  return token;
};
const invited = async () => mailed((await invitation()).email);
const grouped = async () => {
  const [id, { id: user }] = [await group(), await member()];
  await expectStatus(201, owner.client.post(`/tenants/acme/groups/${id}/members`, { user_ids: [user] }));
  return { group: id, user };
};
const sessions = async () => {
  const user = await app.createUser();
  const { body } = await app.anonymous.post('/auth/login', { email: user.email, password: user.password });
  return { ...user, client: app.anonymous.withToken(body.access_token) };
};
const people = (form: FormData) => {
  form.append('file', new Blob([`email,role\n${unique('csv')}@example.com,viewer\n`]), 'people.csv');
  return form;
};

const SECRET = 'a secret that nobody may read anywhere';
/** Whatever was sent or mailed and must be in no entry. */
const secrets = new Set([SECRET]);

const changeMember = async (): Promise<Call> => ({ ids: { user: (await member()).id } });
const changeDocument = async (): Promise<Call> => ({ ids: { document: await document() } });
const byAdmin = (): Call => ({ as: admin });

const FIXTURES: Record<string, () => Promise<Call> | Call> = {
  'POST /users': byAdmin,
  'PATCH /users/:user': async () => ({ as: admin, ids: { user: (await app.createUser()).id } }),
  'DELETE /users/:user': async () => ({ as: admin, ids: { user: (await app.createUser()).id } }),
  'POST /users/:user/tenants': async () => ({
    as: admin,
    ids: { user: (await app.createUser()).id },
    body: { tenant_id: 'acme', role: 'viewer' },
  }),
  'PUT /tenants/:tenant/quotas': async () => ({ as: admin, ids: { tenant: await tenant() } }),
  'DELETE /users/:user/tenants/:tenant': async () => ({ as: admin, ids: { user: (await member()).id } }),

  'POST /tenants/:tenant/roles': () => ({}),
  'PATCH /tenants/:tenant/roles/:role': async () => ({ ids: { role: await role() } }),
  'PUT /tenants/:tenant/roles/:role': async () => ({ ids: { role: await role() } }),
  'DELETE /tenants/:tenant/roles/:role': async () => ({ ids: { role: await role() } }),
  'POST /tenants/:tenant/groups': () => ({}),
  'PATCH /tenants/:tenant/groups/:group': async () => ({ ids: { group: await group() } }),
  'DELETE /tenants/:tenant/groups/:group': async () => ({ ids: { group: await group() } }),
  'POST /tenants/:tenant/groups/:group/members': async () => ({
    ids: { group: await group() },
    body: { user_ids: [(await member()).id] },
  }),
  'DELETE /tenants/:tenant/groups/:group/members/:user': async () => ({ ids: await grouped() }),

  'POST /tenants/:tenant/api-tokens': () => ({}),
  'PATCH /tenants/:tenant/api-tokens/:token': async () => ({ ids: { token: await apiToken() } }),
  'DELETE /tenants/:tenant/api-tokens/:token': async () => ({ ids: { token: await apiToken() } }),
  'POST /tenants/:tenant/api-tokens/:token/rotate': async () => ({ ids: { token: await apiToken() } }),

  'POST /tenants/:tenant/members': async () => ({
    body: { user_id: (await app.createUser()).id, role: 'viewer' },
  }),
  'PUT /tenants/:tenant/members/:user': async () => ({ ...(await changeMember()), body: { role: 'editor' } }),
  'PATCH /tenants/:tenant/members/:user': async () => ({
    ...(await changeMember()),
    body: { status: 'suspended' },
  }),
  'DELETE /tenants/:tenant/members/:user': changeMember,
  'POST /tenants/:tenant/members/:user/roles': async () => ({
    ...(await changeMember()),
    body: { role: 'editor' },
  }),
  'PATCH /tenants/:tenant/members/:user/roles/:role': async () => ({
    ids: { user: (await member()).id, role: 'viewer' },
    body: { role: 'editor' },
  }),
  'DELETE /tenants/:tenant/members/:user/roles/:role': async () => {
    const { id } = await member();
    await expectStatus(201, owner.client.post(`/tenants/acme/members/${id}/roles`, { role: 'editor' }));
    return { ids: { user: id, role: 'editor' } };
  },
  'POST /tenants/:tenant/leave': async () => ({ as: await member() }),
  'POST /tenants/:tenant/members/bulk': () => ({
    body: { users: [{ email: `${unique('bulk')}@example.com`, role: 'viewer' }] },
  }),
  'POST /tenants/:tenant/members/import': () => ({ body: people(new FormData()) }),
  'POST /tenants/:tenant/invitations': () => ({}),
  'POST /tenants/:tenant/invitations/:invitation/resend': async () => ({
    ids: { invitation: (await invitation()).id },
  }),
  'DELETE /tenants/:tenant/invitations/:invitation': async () => ({
    ids: { invitation: (await invitation()).id },
  }),
  'POST /invitations/:token/accept': async () => ({
    as: null,
    ids: { token: await invited() },
    body: { password: SECRET, display_name: 'A Guest' },
  }),
  'POST /invitations/:token/decline': async () => ({ as: null, ids: { token: await invited() } }),

  'POST /platform/storage/sweep': byAdmin,
  'POST /tenants': byAdmin,
  'PATCH /tenants/:tenant': () => ({}),
  'PUT /tenants/:tenant': () => ({}),
  'DELETE /tenants/:tenant': async () => ({ as: admin, ids: { tenant: await tenant() } }),
  'POST /tenants/:tenant/suspend': async () => ({ as: admin, ids: { tenant: await tenant() } }),
  'POST /tenants/:tenant/activate': async () => {
    const name = await tenant();
    await expectStatus(200, app.admin.post(`/tenants/${name}/suspend`));
    return { as: admin, ids: { tenant: name } };
  },
  'PUT /tenants/:tenant/features': () => ({}),
  'PATCH /tenants/:tenant/config': () => ({}),
  'PUT /tenants/:tenant/variables/:variable': () => ({ ids: { variable: 'ANOTHER' } }),
  'DELETE /tenants/:tenant/variables/:variable': async () => ({ ids: { variable: await variable() } }),
  'POST /tenant-templates': byAdmin,
  'PUT /tenant-templates/:template': async () => ({ as: admin, ids: { template: await template() } }),
  'DELETE /tenant-templates/:template': async () => ({ as: admin, ids: { template: await template() } }),

  'PUT /prices': byAdmin,
  'POST /tenants/:tenant/credits': byAdmin,
  'PATCH /tenants/:tenant/credits': () => ({}),

  'POST /tenants/:tenant/alerts': () => ({}),
  'PATCH /tenants/:tenant/alerts/:alert': async () => ({ ids: { alert: await alert() } }),
  'DELETE /tenants/:tenant/alerts/:alert': async () => ({ ids: { alert: await alert() } }),

  'POST /tenants/:tenant/models': () => ({}),
  'PATCH /tenants/:tenant/models/:model': async () => ({ ids: { model: await model() } }),
  'DELETE /tenants/:tenant/models/:model': async () => ({ ids: { model: await model() } }),
  'PUT /tenants/:tenant/models/defaults': () => ({}),
  'POST /platform/models': () => ({ as: admin }),
  'PATCH /platform/models/:model': async () => ({ as: admin, ids: { model: await platformModel() } }),
  'DELETE /platform/models/:model': async () => ({ as: admin, ids: { model: await platformModel() } }),
  'PUT /platform/models/defaults': () => ({ as: admin }),

  'POST /tenants/:tenant/webhooks': () => ({}),
  'PATCH /tenants/:tenant/webhooks/:webhook': async () => ({ ids: { webhook: await webhook() } }),
  'DELETE /tenants/:tenant/webhooks/:webhook': async () => ({ ids: { webhook: await webhook() } }),
  'POST /tenants/:tenant/webhooks/:webhook/rotate-secret': async () => ({
    ids: { webhook: await webhook() },
  }),
  'POST /tenants/:tenant/webhooks/:webhook/test': async () => ({ ids: { webhook: await webhook() } }),
  'POST /tenants/:tenant/webhooks/:webhook/deliveries/:delivery/redeliver': async () => ({
    ids: await delivered(),
  }),

  'POST /tenants/:tenant/kbs': () => ({}),
  'PATCH /tenants/:tenant/kbs/:kb': () => ({}),
  'PUT /tenants/:tenant/kbs/:kb': async () => ({ ids: { kb: await kb() } }),
  'DELETE /tenants/:tenant/kbs/:kb': async () => ({ ids: { kb: await kb() } }),
  'POST /tenants/:tenant/kbs/:kb/ingestion/pause': async () => ({ ids: { kb: await kb() } }),
  'POST /tenants/:tenant/kbs/:kb/ingestion/resume': async () => ({ ids: { kb: await kb() } }),
  'POST /tenants/:tenant/kbs/:kb/reindex': async () => ({ ids: { kb: await kb() } }),
  'PUT /tenants/:tenant/kbs/:kb/grants': async () => ({
    body: { grants: [{ user_id: (await member()).id, role: 'editor' }] },
  }),
  'POST /tenants/:tenant/kbs/:kb/grants': async () => ({
    body: { user_id: (await member()).id, role: 'editor' },
  }),
  'POST /tenants/:tenant/kbs/:kb/agents': () => ({}),
  'PATCH /tenants/:tenant/kbs/:kb/agents/:agent': async () => ({ ids: { agent: await agent() } }),
  'DELETE /tenants/:tenant/kbs/:kb/agents/:agent': async () => ({ ids: { agent: await agent() } }),
  'POST /tenants/:tenant/kbs/:kb/evaluations': async () => ({ ids: { kb: await kb() } }),
  'POST /tenants/:tenant/kbs/:kb/evaluations/:evaluation/cancel': async () => ({
    ids: await waitingEvaluation(),
  }),
  'DELETE /tenants/:tenant/kbs/:kb/evaluations/:evaluation': async () => ({ ids: await waitingEvaluation() }),
  'PATCH /tenants/:tenant/sessions/:chat': async () => ({ ids: await chat() }),
  'DELETE /tenants/:tenant/sessions/:chat': async () => ({ ids: await chat() }),
  'POST /messages/:message/feedback': async () => ({
    ids: await chat(),
    headers: { 'x-tenant-id': 'acme' },
  }),
  'DELETE /tenants/:tenant/kbs/:kb/grants/:grant': async () => ({ ids: { grant: await grant() } }),
  'POST /tenants/:tenant/kbs/:kb/documents': () => ({}),
  'POST /tenants/:tenant/kbs/:kb/documents/text': () => ({}),
  'POST /tenants/:tenant/kbs/:kb/documents/url': () => ({}),
  'POST /tenants/:tenant/kbs/:kb/documents/urls': () => ({}),
  'POST /tenants/:tenant/kbs/:kb/documents/bulk-delete': async () => ({
    body: { document_ids: [await document()] },
  }),
  'POST /upload': async () => ({
    body: { url: `https://pages.invalid/${randomUUID()}`, tenant_id: tenantId },
    headers: { 'x-kb-id': 'docs' },
  }),
  'PATCH /tenants/:tenant/kbs/:kb/documents/:document': changeDocument,
  'DELETE /tenants/:tenant/kbs/:kb/documents/:document': changeDocument,
  'POST /tenants/:tenant/kbs/:kb/documents/:document/reindex': changeDocument,
  'POST /tenants/:tenant/kbs/:kb/documents/:document/cancel': async () => {
    const id = await document();
    // As if it waited still.
    await superuser(
      `UPDATE documents SET status = 'queued', run_after = now() + interval '1 hour' WHERE id = '${id}'`,
    );
    return { ids: { document: id } };
  },
  'POST /jobs/:job/cancel': async () => {
    const urls = [`https://pages.invalid/${randomUUID()}`];
    const path = '/tenants/acme/kbs/docs/documents/urls';
    const { body } = await expectStatus(202, owner.client.post(path, { urls }));
    // As if it waited still.
    await superuser(
      `UPDATE jobs SET status = 'queued', run_after = now() + interval '1 hour' WHERE id = '${body.job_id}'`,
    );
    return { ids: { job: body.job_id } };
  },
  'PUT /tenants/:tenant/kbs/:kb/documents/:document/acl': async () => ({
    ids: { document: await document() },
    body: { acl: { members: [(await member()).id] } },
  }),

  'POST /auth/register': () => ({ as: null }),
  'POST /auth/login': async () => {
    const { email, password } = await app.createUser();
    return { as: null, body: { email, password } };
  },
  'POST /auth/logout': async () => ({ as: await app.createUser() }),
  'POST /auth/reset-password': async () => {
    const { email } = await app.createUser();
    await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email }));
    return { as: null, body: { token: await mailed(email), new_password: SECRET } };
  },
  'POST /auth/change-password': async () => {
    const user = await app.createUser();
    return { as: user, body: { current_password: user.password, new_password: SECRET } };
  },
  'PATCH /auth/me': async () => ({ as: await app.createUser() }),
  'DELETE /auth/sessions/:session': async () => {
    const user = await sessions();
    const { body } = await user.client.get('/auth/sessions');
    const other = body.items.find(({ current }: { current: boolean }) => !current);
    return { as: user, ids: { session: other.id } };
  },
  'DELETE /auth/sessions': async () => ({ as: await sessions() }),
};

const routes = () =>
  app.application.nest
    .get(RouteAccess, { strict: false })
    .list()
    .filter(({ method }) => ['POST', 'PUT', 'PATCH', 'DELETE'].includes(method));

/** Of all chains, behind where they ended. */
async function entriesSince(ends: Map<string, number>): Promise<Entry[]> {
  const rows = await superuser(
    `SELECT chain_id::text AS chain, sequence::int, actor_type, actor_id::text, action, outcome
     FROM audit_entries ORDER BY chain_id, sequence`,
  );
  return (rows as Entry[]).filter(({ chain, sequence }) => sequence > (ends.get(chain) ?? 0));
}

async function endsOfChains(): Promise<Map<string, number>> {
  const rows = await superuser(`SELECT chain_id::text AS chain, sequence::int FROM audit_chains`);
  return new Map(rows.map(({ chain, sequence }) => [chain, sequence]));
}

/** Passwords, tokens and values of variables that a body holds. */
function noteSecrets(body: unknown): void {
  if (typeof body !== 'object' || body === null || body instanceof FormData) return;
  for (const [name, value] of Object.entries(body)) {
    if (/password|token|^value$/.test(name) && typeof value === 'string') secrets.add(value);
    else noteSecrets(value);
  }
}

/** Calls the route once, successfully. @returns what it wrote down, or what went wrong */
async function perform(
  key: string,
): Promise<{ failure: string | null; entries: Entry[]; as: Person | null }> {
  const [method, path] = key.split(' ') as [string, string];
  const fixture = FIXTURES[key];
  if (!fixture) return { failure: 'has no fixture here', entries: [], as: null };
  const call = await Promise.resolve()
    .then(fixture)
    .catch((error: unknown) => String(error));
  if (typeof call === 'string') return { failure: `cannot be prepared: ${call}`, entries: [], as: null };
  const { as = owner, body = EXAMPLE_BODIES[key]?.() } = call;
  noteSecrets(body);
  const ids: Record<string, string> = { tenant: 'acme', kb: 'docs', ...call.ids };
  const filled = path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(ids[name] ?? `no-${name}`));
  const before = await endsOfChains();
  const client = (as?.client ?? app.anonymous).withHeaders(call.headers ?? {});
  const { status, body: answer } = await client.send(method, filled, body);
  if (status < 200 || status > 299)
    return { failure: `answers ${status} ${JSON.stringify(answer)}`, entries: [], as };
  for (const name of ['access_token', 'refresh_token', 'secret'])
    if (answer?.[name]) secrets.add(answer[name]);
  return { failure: null, entries: await entriesSince(before), as };
}

describe('every change', () => {
  it('is written down, with who made it', async () => {
    const problems: string[] = [];
    for (const { method, path, permission } of routes()) {
      const key = `${method} ${path}`;
      if (key in EXCEPTIONS) continue;
      const { failure, entries, as } = await perform(key);
      const byCaller = entries.filter(
        ({ actor_type, actor_id, outcome, chain }) =>
          outcome === 'allowed' &&
          (as
            ? actor_id === as.id && ['user', 'platform_admin'].includes(actor_type)
            : actor_type !== 'system') &&
          (permission?.startsWith('tenant:') && as === owner ? chain === tenantId : true),
      );
      if (failure) problems.push(`${key} ${failure}`);
      else if (byCaller.length === 0)
        problems.push(`${key} writes nothing down, but ${JSON.stringify(entries)}`);
      else if (byCaller.some(({ action }) => !/^[a-z_]+(\.[a-z_]+)+$/.test(action)))
        problems.push(`${key}: ${byCaller.map(({ action }) => action).join(', ')}`);
    }
    expect(problems).toEqual([]);
  });

  it('of every exception and fixture belongs to a route that is there', async () => {
    const known = routes().map(({ method, path }) => `${method} ${path}`);
    expect(
      [...Object.keys(EXCEPTIONS), ...Object.keys(FIXTURES)].filter(key => !known.includes(key)),
    ).toEqual([]);
  });

  it('has no secret in what is written down', async () => {
    const rows = await superuser('SELECT e::text AS entry FROM audit_entries e');
    expect(rows.length).toBeGreaterThan(50);
    expect(secrets.size).toBeGreaterThan(10);
    const leaks = [...secrets].flatMap(secret =>
      rows.filter(({ entry }) => entry.includes(secret)).map(({ entry }) => `${secret}: ${entry}`),
    );
    expect(leaks).toEqual([]);
    expect(rows.filter(({ entry }) => /\$argon2|eyJ[\w-]+\.eyJ/.test(entry))).toEqual([]);
  });

  it('leaves every chain whole', async () => {
    for (const path of ['/tenants/acme/audit/verify', '/audit/verify'])
      expect((await app.admin.get(path)).body).toMatchObject({ valid: true, first_problem: null });
  });
});
