import { Client } from '../client.js';
import { EXAMPLE_BODIES } from '../example-bodies.js';
import type { Caller } from './requests.js';

/** What placeholders of one tenant stand for, by the name of the path parameter. */
type Ids = Record<string, string>;
type TenantName = 'main' | 'other' | 'spare';

const MODEL_TYPES = ['asr', 'chat', 'embedding', 'image2text', 'rerank', 'tts'];
const PASSWORD = 'a password of the fuzz tests';
/** Whose answers may tell of which tenant. */
const SEES: Record<Caller, TenantName[]> = {
  nobody: [],
  garbage: [],
  admin: ['main', 'other', 'spare'],
  owner: ['main'],
  editor: ['main'],
  viewer: ['main'],
  token: ['main'],
  stranger: [],
  intruder: ['other'],
  doomed: ['spare'],
  leaver: [],
};

let made = 0;

/**
 * Three tenants and whoever calls: what requests are about. `main` is asked, `other` must never be heard of, and `spare`
 * may be ended.
 */
export class Surroundings {
  private readonly ids = new Map<TenantName, Ids>();
  private readonly tokens = new Map<Caller, string | null>();
  /** By tenant: a word that stands in its documents and in the names of what it has. */
  private readonly marks = new Map<TenantName, string>();

  private constructor(
    private readonly url: string,
    private readonly signIn: { email: string; password: string },
  ) {}

  static async make(url: string, admin: { email: string; password: string }): Promise<Surroundings> {
    const surroundings = new Surroundings(url, admin);
    await surroundings.repair();
    return surroundings;
  }

  tokenOf(caller: Caller): string | null {
    return this.tokens.get(caller) ?? null;
  }

  /** Words that this caller must not hear, with whose they are. */
  foreignMarks(caller: Caller): Map<string, string> {
    const current = [...this.marks].filter(([tenant]) => !SEES[caller].includes(tenant));
    return new Map(
      current.map(([tenant, mark]) => [mark, `what is of the tenant ${tenant}, told to ${caller}`]),
    );
  }

  /** What a placeholder stands for; what nothing is known of is a missing id. */
  idOf(tenant: string, kind: string): string {
    return this.ids.get(tenant as TenantName)?.[kind] ?? '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';
  }

  /** A user who may sign out, or change the password. */
  async renewLeaver(): Promise<void> {
    const { token } = await this.newUser();
    this.tokens.set('leaver', token);
  }

  /** Makes anew what requests have ended. */
  async repair(): Promise<void> {
    if ((await this.as('admin').get('/auth/me')).status !== 200) {
      const { access_token: token } = await this.expect(200, 'nobody', 'POST', '/auth/login', this.signIn);
      this.tokens.set('admin', token);
      this.tokens.set('garbage', 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.');
    }
    await this.resetPlatform();
    if ((await this.as('stranger').get('/auth/me')).status !== 200)
      this.tokens.set('stranger', (await this.newUser()).token);
    if ((await this.as('leaver').get('/auth/me')).status !== 200) await this.renewLeaver();
    await this.repairTenant('main', ['owner', 'editor', 'viewer']);
    await this.repairTenant('other', ['intruder']);
    await this.repairTenant('spare', ['doomed']);
  }

  /** Prices and defaults that a request has set hold for every tenant. */
  private async resetPlatform(): Promise<void> {
    const { items } = await this.admin(200, 'GET', '/prices');
    const prices = items.map(({ operation, model }: any) => ({ operation, model, micro_credits: null }));
    if (prices.length > 0) await this.admin(200, 'PUT', '/prices', { prices });
    const nothing = Object.fromEntries(MODEL_TYPES.map(type => [type, []]));
    await this.admin(200, 'PUT', '/platform/models/defaults', nothing);
  }

  private async repairTenant(name: TenantName, callers: Caller[]): Promise<void> {
    if (await this.isWhole(name, callers)) return;
    const [mark, ids] = await this.newTenant(name);
    for (const [index, caller] of callers.entries()) {
      const role = caller === 'editor' || caller === 'viewer' ? caller : 'owner';
      const user = await this.newUser();
      this.tokens.set(caller, user.token);
      await this.admin(201, 'POST', `/tenants/${ids['tenant']}/members`, { user_id: user.id, role });
      if (index > 0 || name !== 'main') continue;
      const token = await this.expect(201, 'owner', 'POST', `/tenants/${ids['tenant']}/api-tokens`, {
        name: 'Token of the tests',
        scopes: [
          'tenant:read',
          'kb:read',
          'kb:update',
          'document:read',
          'document:create',
          'query:run',
          'graph:read',
        ],
        rate_limit_per_minute: 1_000_000,
      });
      this.tokens.set('token', token.secret);
    }
    this.ids.set(name, ids);
    this.marks.set(name, mark);
  }

  private async isWhole(name: TenantName, callers: Caller[]): Promise<boolean> {
    const ids = this.ids.get(name);
    if (!ids) return false;
    const kb = `/tenants/${ids['tenant']}/kbs/${ids['kb']}`;
    const answers = await Promise.all([
      this.as('admin').get(`${kb}/documents/${ids['document']}`),
      ...callers.map(caller => this.as(caller).get(`/tenants/${ids['tenant']}`)),
      ...(name === 'main' ? [this.as('token').get(kb)] : []),
    ]);
    return answers.every(({ status }) => status === 200);
  }

  private async newTenant(name: TenantName): Promise<[mark: string, Ids]> {
    const number = `${++made}${Math.random().toString(36).slice(2, 7)}`;
    const tenantName = `fuzz-${name}-${number}`;
    const mark = `Mark${name}${number}`;
    const tenant = await this.admin(201, 'POST', '/tenants', { name: tenantName });
    const create = (path: string, body: unknown, status = 201): Promise<any> =>
      this.admin(status, 'POST', `/tenants/${tenantName}${path}`, body);
    const kb = await create('/kbs', { name: `Docs ${mark}`, config: { graph: 'names' } });
    const slug = `/kbs/${kb.id}`;
    const document = await create(
      `${slug}/documents/text`,
      {
        text: `# Launch\n\nThe launch code is ${mark}, as Ada Lovelace of ${mark} knows. The warranty lasts two years.`,
      },
      202,
    );
    const member = await this.newUser();
    await create('/members', { user_id: member.id, role: 'viewer' });
    const role = await create('/roles', { name: `support-${number}`, permissions: ['tenant:read'] });
    const group = await create('/groups', { name: `Group ${mark}` });
    const grant = await create(`${slug}/grants`, { group_id: group.id, role: 'editor' });
    const invitation = await create('/invitations', { email: `guest-${number}@example.com`, role: 'viewer' });
    await this.admin(200, 'PUT', `/tenants/${tenantName}/variables/KEY`, { value: 'a secret' });
    await this.admin(201, 'POST', '/tenant-templates', { name: `template-${number}` });
    const token = await create('/api-tokens', { name: `Token ${mark}`, scopes: ['query:run'] });
    const hook = { url: 'https://hooks.invalid/x', events: ['member.*'], is_active: false };
    const webhook = await create('/webhooks', hook);
    const delivery = await create(`/webhooks/${webhook.id}/test`, undefined, 200);
    const alert = await create('/alerts', {
      metric: 'users',
      threshold: 1_000,
      threshold_type: 'absolute',
      actions: ['webhook'],
      is_active: false,
    });
    const model = await create('/models', EXAMPLE_BODIES['POST /tenants/:tenant/models']?.());
    const agent = await create(`${slug}/agents`, { name: `Agent ${mark}` });
    await this.settled(`/tenants/${tenantName}${slug}/documents/${document.id}`);
    const chat = await create(`${slug}/chat`, { message: 'What is the launch code?', mode: 'keyword' }, 200);
    const evaluation = await create(
      `${slug}/evaluations`,
      EXAMPLE_BODIES['POST /tenants/:tenant/kbs/:kb/evaluations']?.(),
      202,
    );
    const entities = await this.admin(200, 'GET', `/tenants/${tenantName}${slug}/graph/entities`);
    const sessions = await this.expect(200, 'leaver', 'GET', '/auth/sessions');
    return [
      mark,
      {
        tenant: tenant.id,
        kb: kb.id,
        document: document.id,
        user: member.id,
        role: role.name,
        group: group.id,
        grant: grant.id,
        invitation: invitation.id,
        variable: 'KEY',
        template: `template-${number}`,
        session: sessions.items[0].id,
        job: document.id,
        token: token.id,
        webhook: webhook.id,
        delivery: delivery.id,
        alert: alert.id,
        model: model.id,
        agent: agent.id,
        chat: chat.session_id,
        message: chat.message_id,
        evaluation: evaluation.id,
        entity: entities.items[0]?.id,
      },
    ];
  }

  private async newUser(): Promise<{ id: string; token: string }> {
    const email = `fuzz-${++made}-${Math.random().toString(36).slice(2, 10)}@example.com`;
    const { user, access_token: token } = await this.expect(201, 'nobody', 'POST', '/auth/register', {
      email,
      password: PASSWORD,
    });
    return { id: user.id, token };
  }

  private async settled(path: string): Promise<void> {
    for (let waited = 0; waited < 30_000; waited += 50) {
      const { status } = await this.admin(200, 'GET', path);
      if (status !== 'queued' && status !== 'processing') return;
      await new Promise(done => {
        setTimeout(done, 50);
      });
    }
    throw new Error(`${path} has not been ingested in 30 s.`);
  }

  private as(caller: Caller): Client {
    return new Client(this.url, this.tokenOf(caller));
  }

  private admin(status: number, method: string, path: string, body?: unknown): Promise<any> {
    return this.expect(status, 'admin', method, path, body);
  }

  private async expect(
    status: number,
    caller: Caller,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<any> {
    const answer = await this.as(caller).send(method, path, body);
    if (answer.status !== status)
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
}
