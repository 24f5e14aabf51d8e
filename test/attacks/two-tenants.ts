import { type TestApplication, expectStatus } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Answer, Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import type { Ids } from '../setup/route-calls.js';

/** A tenant with one of whatever a path can name, and its owner. */
export interface FurnishedTenant {
  name: string;
  ids: Ids;
  owner: Client;
  ownerUser: { id: string; email: string };
}

/** Stands in the texts of the victim, and in no name. */
export const SECRET = 'quixotic zephyr of the victim';

/** Who attacks, and who is attacked. */
export async function furnishPair(
  app: TestApplication,
): Promise<{ intruder: FurnishedTenant; victim: FurnishedTenant }> {
  const intruder = await furnishTenant(app, 'intruder', 'nothing of anybody');
  return { intruder, victim: await furnishTenant(app, 'victim', SECRET) };
}

/** @param secret stands in the texts of the tenant and in no name, so that no answer to anybody else may hold it */
async function furnishTenant(app: TestApplication, name: string, secret: string): Promise<FurnishedTenant> {
  const { id: tenant, kbId: kb } = await app.createTenant(name);
  await expectStatus(200, app.admin.patch(`/tenants/${name}/kbs/docs`, { config: { graph: 'names' } }));
  const document = await app.addText(
    name,
    `# Warranty\n\nThe warranty lasts two years, says Ada Lovelace. ${secret}`,
    { metadata: { secret } },
  );
  const owner = await app.createMember(name, 'owner');
  const member = await app.createMember(name, 'viewer');
  const made = async (path: string, body?: unknown, status = 201) =>
    (await expectStatus(status, owner.client.post(`/tenants/${name}${path}`, body))).body;
  const group = await made('/groups', { name: `Group ${secret}` });
  const webhook = await made('/webhooks', {
    url: 'https://hooks.invalid/x',
    events: ['*'],
    is_active: false,
  });
  const question = { message: 'warranty', mode: 'keyword' };
  const chat = await made('/kbs/docs/chat', question, 200);
  const example = EXAMPLE_BODIES['POST /tenants/:tenant/kbs/:kb/evaluations']?.();
  const evaluation = await made('/kbs/docs/evaluations', example, 202);
  await app.jobEnded(`/jobs/${evaluation.job_id}`);
  await made(`/groups/${group.id}/members`, { user_id: member.id });
  await expectStatus(200, app.admin.put(`/tenants/${name}/variables/SECRET`, { value: secret }));
  await expectStatus(201, app.admin.post('/tenant-templates', { name: `template-of-${name}` }));
  const { body: entities } = await owner.client.get(`/tenants/${name}/kbs/docs/graph/entities`);
  const { body: sessions } = await owner.client.get('/auth/sessions');
  const { body: model } = await expectStatus(
    201,
    app.admin.post(`/tenants/${name}/models`, EXAMPLE_BODIES['POST /tenants/:tenant/models']?.()),
  );
  const alert = { ...EXAMPLE_BODIES['POST /tenants/:tenant/alerts']?.(), name: secret };
  return {
    name,
    owner: owner.client,
    ownerUser: owner,
    ids: {
      tenant,
      kb,
      document: document.id,
      user: member.id,
      role: (await made('/roles', { name: `support-of-${name}`, permissions: ['tenant:read'] })).name,
      group: group.id,
      grant: (await made('/kbs/docs/grants', { group_id: group.id, role: 'viewer' })).id,
      invitation: (await made('/invitations', { email: `guest-of-${name}@example.com`, role: 'viewer' })).id,
      variable: 'SECRET',
      template: `template-of-${name}`,
      session: sessions.items[0].id,
      job: evaluation.job_id,
      token: (await made('/api-tokens', { name: secret, scopes: ['query:run'] })).id,
      webhook: webhook.id,
      delivery: (await made(`/webhooks/${webhook.id}/test`, undefined, 200)).id,
      alert: (await made('/alerts', alert)).id,
      model: model.id,
      agent: (await made('/kbs/docs/agents', { name: secret })).id,
      chat: chat.session_id,
      message: chat.message_id,
      evaluation: evaluation.id,
      entity: entities.items[0].id,
    },
  };
}

/** Runs `work` for each of `items`, a few at a time, and what the product's own pool would make wait waits here. */
export async function each<T>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  await atOnce(items.entries(), ([index, item]) => work(item, index), 6);
}

/** Status and body, but for the two members that every problem has to itself. */
export const told = ({ status, body }: Answer) => ({
  status,
  body: typeof body === 'object' ? { ...body, instance: null, request_id: null } : body,
});

/** Words that no answer may hold: of the database, of the runtime, of this machine. */
const LEAKS =
  /syntax error at|QueryFailed|unterminated quoted|invalid input syntax|violates (?:unique|foreign|check|row-level)|relation "\w+"|column "\w+"|node_modules|\.[jt]s:\d+|permission denied for/i;

/** Whatever was sent: no fault of the server's, and nothing of its inside. */
export function leakOf(answer: Answer): string | null {
  if (answer.status >= 500) return `${answer.status} ${JSON.stringify(answer.body)}`;
  const text = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body ?? '');
  return answer.status >= 400 ? (LEAKS.exec(text)?.[0] ?? null) : null;
}
