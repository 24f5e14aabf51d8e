import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from './foundation/http/problem.js';
import { Account, Caller, type VerifyServer } from './verify-api.js';

/** How everything that this command makes is called. */
const PREFIX = 'isolation-check';
const TENANT_NAME = /^isolation-check-[0-9a-f]{8}-[ab]$/;
const EMAIL = /^[a-z-]+\.[0-9a-f]{8}@isolation-check\.invalid$/;
/** What is older was left by a run that was killed, in milliseconds. */
const LEFT_OVER_AFTER_MS = 3600 * 1000;
/** For documents to be ingested, and for what was made to be removed, in milliseconds. */
const LONGEST_INGESTION_MS = 180_000;
const LONGEST_REMOVAL_MS = 60_000;
const POLL_MS = 150;
/** More than any plan that counts. */
const CREDITS = 1_000_000_000_000;

/** What is asked; each document answers it in words of its own. */
export const QUESTION = 'Who lights the Orrery lantern of the harbour?';

/** Of one tenant. */
export interface ThrowAwayTenant {
  id: string;
  name: string;
  /** By name of the parameter of a path. */
  ids: Record<string, string>;
  owner: Account;
}

/** Whoever takes part, by what they are. */
export interface People {
  a: Record<'owner' | 'reader' | 'viewer', Account>;
  b: Record<'owner' | 'admin' | 'editor' | 'viewer' | 'viewer_readonly' | 'gone' | 'locked', Account>;
  /** A member of both. */
  both: Account;
  stranger: Account;
}

/** A document, and a word that stands in no other. */
export interface MarkedDocument {
  name: 'open' | 'restricted' | 'closed';
  id: string;
  kb: string;
  marker: string;
  /** An entity that it alone mentions. */
  entity: string;
}

/** Two tenants that are there for the length of a run. */
export class ThrowAway {
  readonly run = randomBytes(4).toString('hex');
  a!: ThrowAwayTenant;
  b!: ThrowAwayTenant;
  people!: People;
  /** Ids of accounts, by e-mail address; null from when it is asked for until the answer is there. */
  private readonly userIds = new Map<string, string | null>();
  documents!: MarkedDocument[];
  /** Knowledge base that only those see to whom a role on it was granted. */
  closedKb!: string;
  /** In each tenant a knowledge base of the same history and the same text, word for word. */
  twins!: Record<'a' | 'b', string>;
  /** Every id and every marker of A, each with what it is: nobody else may be told of them. */
  readonly secrets = new Map<string, string>();
  /** Their names, from before they are asked for: an answer may be lost. */
  private readonly tenants: string[] = [];
  private readonly password = `${randomUUID()}${randomUUID()}`;

  constructor(
    private readonly server: VerifyServer,
    private readonly admin: Caller,
  ) {}

  emailOf(name: string): string {
    return `${name}.${this.run}@${PREFIX}.invalid`;
  }

  /** @throws Problem where the server refuses, or does not ingest */
  async make(): Promise<void> {
    await this.makeTenants();
    await this.makePeople();
    await this.fill();
  }

  /** Whatever of it has been made. @returns what could not be removed, each a sentence */
  async remove(admin: Caller): Promise<string[]> {
    const problems: string[] = [];
    for (const name of this.tenants) problems.push(...(await removeTenant(admin, name)));
    try {
      await this.findUsers(admin);
    } catch (error) {
      problems.push(`Accounts whose making was not answered may be left: ${(error as Error).message}`);
    }
    for (const [email, id] of this.userIds)
      if (id !== null) problems.push(...(await removeUser(admin, id, email)));
    return problems;
  }

  /** Those that were asked for, and not answered. */
  private async findUsers(admin: Caller): Promise<void> {
    if ([...this.userIds.values()].every(id => id !== null)) return;
    for (const { email, id } of await listed(admin, '/users', `.${this.run}@${PREFIX}.invalid`))
      if (this.userIds.has(email as string)) this.userIds.set(email as string, id as string);
  }

  private async makeTenants(): Promise<void> {
    for (const letter of ['a', 'b'] as const) {
      const name = `${PREFIX}-${this.run}-${letter}`;
      const fields = {
        name,
        display_name: `Isolation check (${letter.toUpperCase()})`,
        description: 'Made by verify-isolation, which removes it when it has ended.',
        plan_tier: 'enterprise',
        metadata: { isolation_check: this.run },
      };
      this.tenants.push(name);
      const made = await this.admin.must('POST', '/tenants', fields, { whole: true });
      const id = made['id'] as string;
      this[letter] = { id, name, ids: { tenant: id }, owner: null as unknown as Account };
      // Where questions have a price, they are paid for.
      await this.admin.send('POST', `/tenants/${id}/credits`, { body: { type: 'grant', amount: CREDITS } });
    }
  }

  private async makePeople(): Promise<void> {
    const a = {
      owner: await this.makeMember('owner-of-a', this.a, 'owner'),
      reader: await this.makeMember('reader-of-a', this.a, 'viewer'),
      viewer: await this.makeMember('viewer-of-a', this.a, 'viewer'),
    };
    const b = {
      owner: await this.makeMember('owner-of-b', this.b, 'owner'),
      admin: await this.makeMember('admin-of-b', this.b, 'admin'),
      editor: await this.makeMember('editor-of-b', this.b, 'editor'),
      viewer: await this.makeMember('viewer-of-b', this.b, 'viewer'),
      viewer_readonly: await this.makeMember('viewer-readonly-of-b', this.b, 'viewer_readonly'),
      gone: await this.makeMember('former-admin-of-b', this.b, 'admin'),
      locked: await this.makeMember('locked-admin-of-b', this.b, 'admin'),
    };
    const both = await this.makeMember('member-of-both', this.a, 'viewer');
    await this.addMember(this.userId('member-of-both'), this.b, 'editor');
    this.people = { a, b, both, stranger: await this.makeUser('stranger') };
    this.a.owner = a.owner;
    this.b.owner = b.owner;
  }

  private async makeMember(name: string, tenant: ThrowAwayTenant, role: string): Promise<Account> {
    const account = await this.makeUser(name);
    await this.addMember(this.userId(name), tenant, role);
    return account;
  }

  private async makeUser(name: string): Promise<Account> {
    const email = this.emailOf(name);
    const fields = { email, display_name: `Isolation check: ${name}`, password: this.password };
    this.userIds.set(email, null);
    const made = await this.admin.must('POST', '/users', fields, { whole: true });
    this.userIds.set(email, made['id'] as string);
    return new Account(this.server, name.replaceAll('-', ' '), email, this.password);
  }

  private addMember(userId: string, tenant: ThrowAwayTenant, role: string): Promise<unknown> {
    return this.admin.must('POST', `/tenants/${tenant.id}/members`, { user_id: userId, role });
  }

  userId(name: string): string {
    return this.userIds.get(this.emailOf(name)) as string;
  }

  private async fill(): Promise<void> {
    const { a, b } = this;
    const [openKb, otherKb] = [await this.makeKb(a, 'Harbour'), await this.makeKb(b, 'Harbour')];
    this.twins = { a: await this.makeKb(a, 'Twin'), b: await this.makeKb(b, 'Twin') };
    this.closedKb = await this.makeKb(a, 'Closed', 'granted');
    const reader = this.userId('reader-of-a');
    const grant = await a.owner.caller.must('POST', `/tenants/${a.id}/kbs/${this.closedKb}/grants`, {
      user_id: reader,
      role: 'viewer',
    });
    const made = async (name: MarkedDocument['name'], kb: string, entity: string, fields: object = {}) => {
      const word = `${name}${randomBytes(5).toString('hex')}`;
      const text = `# Lantern\n\n${entity} lights the Orrery lantern of the harbour, says the note ${word}.`;
      const id = await this.addText(a, kb, text, { title: `Note ${word}`, ...fields });
      return { name, id, kb, marker: word, entity };
    };
    this.documents = [
      await made('open', openKb, 'Ada Lovelace'),
      await made('restricted', openKb, 'Grace Hopper', { acl: { members: [reader], groups: [] } }),
      await made('closed', this.closedKb, 'Alan Turing'),
    ];
    // The same in both, word for word.
    const same = `# Tide\n\nThe tide bell of the harbour is rung twelve times at noon.`;
    const texts = [
      await this.addText(a, openKb, same, { title: 'Tide' }),
      await this.addText(b, otherKb, same, { title: 'Tide' }),
    ];
    const ofTwins = [
      await this.addText(a, this.twins.a, same, { title: 'Tide' }),
      await this.addText(b, this.twins.b, same, { title: 'Tide' }),
    ];
    for (const { id, kb } of this.documents) await this.ingested(a, kb, id);
    await this.ingested(a, this.twins.a, ofTwins[0] as string);
    await this.ingested(b, this.twins.b, ofTwins[1] as string);
    await this.ingested(a, openKb, texts[0] as string);
    await this.ingested(b, otherKb, texts[1] as string);
    Object.assign(a.ids, { kb: openKb, document: this.documents[0]?.id, grant: grant['id'] });
    Object.assign(b.ids, { kb: otherKb, document: texts[1] });
    for (const tenant of [a, b]) await this.makeThings(tenant);
    a.ids['user'] = this.userId('viewer-of-a');
    b.ids['user'] = this.userId('viewer-of-b');
    this.secrets.set(this.closedKb, 'a closed knowledge base');
    for (const [parameter, id] of Object.entries(a.ids)) this.secrets.set(id, parameter);
    for (const { id, marker: word, name } of this.documents) {
      this.secrets.set(id, `the ${name} document`);
      this.secrets.set(word, `the text of the ${name} document`);
    }
    for (const name of Object.keys(this.people.a)) this.secrets.set(this.userId(`${name}-of-a`), 'a member');
  }

  private async makeKb(tenant: ThrowAwayTenant, name: string, visibility = 'tenant'): Promise<string> {
    const config = { graph: 'names' };
    const kb = await tenant.owner.caller.must('POST', `/tenants/${tenant.id}/kbs`, {
      name,
      visibility,
      config,
    });
    return kb['id'] as string;
  }

  async addText(
    tenant: ThrowAwayTenant,
    kb: string,
    text: string,
    fields: Record<string, unknown>,
  ): Promise<string> {
    const path = `/tenants/${tenant.id}/kbs/${kb}/documents/text`;
    return (await tenant.owner.caller.must('POST', path, { text, ...fields }))['id'] as string;
  }

  /** @throws Problem where it fails, or takes too long */
  async ingested(tenant: ThrowAwayTenant, kb: string, document: string): Promise<void> {
    const path = `/tenants/${tenant.id}/kbs/${kb}/documents/${document}`;
    for (const until = performance.now() + LONGEST_INGESTION_MS; performance.now() < until;) {
      const { status } = await tenant.owner.caller.must('GET', path);
      if (status === 'ready') return;
      if (status !== 'queued' && status !== 'processing')
        throw new Problem(502, 'not_ingested', `A document could not be ingested: it is ${String(status)}.`);
      await sleep(POLL_MS, undefined, { signal: this.server.signal });
    }
    throw new Problem(
      504,
      'not_ingested',
      `A document was not ingested within ${LONGEST_INGESTION_MS / 1000} s. Does a worker run?`,
    );
  }

  /** One of each thing that a path may name. Nothing of it sends an e-mail. */
  private async makeThings(tenant: ThrowAwayTenant): Promise<void> {
    const { ids, owner } = tenant;
    const base = `/tenants/${tenant.id}`;
    const made = async (path: string, body: unknown) =>
      (await owner.caller.must('POST', `${base}${path}`, body)) as Record<string, string>;
    // Of what has a name, each has its own: one's own must not be taken for the other's.
    const letter = tenant === this.a ? 'a' : 'b';
    const role = { name: `role-of-${letter}-${this.run}`, permissions: ['tenant:read'] };
    ids['role'] = (await made('/roles', role))['name'] as string;
    ids['group'] = (await made('/groups', { name: 'Keepers' }))['id'] as string;
    ids['variable'] = `KEY_OF_${letter.toUpperCase()}_${this.run.toUpperCase()}`;
    await owner.caller.must('PUT', `${base}/variables/${ids['variable']}`, { value: 'a value of the check' });
    ids['token'] = (await made('/api-tokens', { name: 'Named', scopes: ['kb:read'] }))['id'] as string;
    const webhook = { url: 'https://hooks.invalid/isolation-check', events: ['kb.*'], is_active: false };
    ids['webhook'] = (await made('/webhooks', webhook))['id'] as string;
    ids['delivery'] = (await made(`/webhooks/${ids['webhook']}/test`, undefined))['id'] as string;
    const alert = {
      name: 'Check',
      metric: 'users',
      threshold: 1_000_000,
      threshold_type: 'absolute',
      actions: ['webhook'],
      is_active: false,
    };
    ids['alert'] = (await made('/alerts', alert))['id'] as string;
    const model = {
      provider: 'openai_compatible',
      model_type: 'chat',
      model_name: `check-${this.run}`,
      api_base: 'https://models.invalid/v1',
      api_key: randomUUID(),
    };
    ids['model'] = (await made('/models', model))['id'] as string;
    const kb = `/kbs/${ids['kb']}`;
    ids['agent'] = (await made(`${kb}/agents`, { name: 'Check' }))['id'] as string;
    const chat = await made(`${kb}/chat`, { message: QUESTION, mode: 'keyword' });
    ids['chat'] = chat['session_id'] as string;
    const evaluation = await made(`${kb}/evaluations`, {
      questions: [{ question: QUESTION }],
      variants: [{ name: 'words', mode: 'keyword', answer: false }],
    });
    ids['evaluation'] = evaluation['id'] as string;
    ids['job'] = evaluation['job_id'] as string;
    // The events of a job that has not ended are a stream for as long.
    if ((await ended(owner.caller, ids['job'], LONGEST_INGESTION_MS)) === null)
      throw new Problem(504, 'not_evaluated', 'An evaluation of one question has not ended.');
    const entities = await owner.caller.must('GET', `${base}${kb}/graph/entities`);
    const [entity] = entities['items'] as Array<{ id: string }>;
    if (entity) ids['entity'] = entity.id;
  }
}

/** Tenants and accounts of runs that were killed, if they are old enough. @returns how many there were */
export async function removeLeftOvers(admin: Caller): Promise<{ removed: number; problems: string[] }> {
  const before = Date.now() - LEFT_OVER_AFTER_MS;
  const isOld = (item: Record<string, unknown>) => Date.parse(item['created_at'] as string) < before;
  const tenants = (await listed(admin, '/tenants', PREFIX))
    .filter(isOld)
    .filter(
      ({ name, metadata, status }) =>
        TENANT_NAME.test(name as string) &&
        typeof (metadata as Record<string, unknown>)['isolation_check'] === 'string' &&
        status !== 'erasing',
    );
  const users = (await listed(admin, '/users', PREFIX))
    .filter(isOld)
    .filter(({ email }) => EMAIL.test(email as string));
  const outcomes: string[][] = [];
  for (const { id } of tenants) outcomes.push(await removeTenant(admin, id as string));
  for (const { id, email } of users) outcomes.push(await removeUser(admin, id as string, email as string));
  const removed = outcomes.filter(problems => problems.length === 0).length;
  return { removed, problems: outcomes.flat() };
}

/** Every page of a search. */
async function listed(admin: Caller, path: string, search: string): Promise<Array<Record<string, unknown>>> {
  const found: Array<Record<string, unknown>> = [];
  for (let page = 1; ; page++) {
    const query = new URLSearchParams({ search, page: String(page), page_size: '100' });
    const { items } = (await admin.must('GET', `${path}?${query.toString()}`)) as { items: typeof found };
    found.push(...items);
    if (items.length < 100) return found;
  }
}

/** @param tenant id or name. @returns what is left, each a sentence */
async function removeTenant(admin: Caller, tenant: string): Promise<string[]> {
  try {
    const answer = await admin.send('DELETE', `/tenants/${tenant}`);
    if (answer.status === 404) return [];
    if (answer.status !== 204) return [`The tenant ${tenant} could not be removed (${answer.status}).`];
    const job = answer.headers.get('location')?.split('/').at(-1);
    const how = job ? await ended(admin, job, LONGEST_REMOVAL_MS) : null;
    if (how === 'succeeded') return [];
    return [
      how === null
        ? `The tenant ${tenant} is closed, and its rows are still being removed by a job.`
        : `The tenant ${tenant} is closed, but the job that removes its rows ended as ${how}.`,
    ];
  } catch (error) {
    return [`The tenant ${tenant} could not be removed: ${(error as Error).message}`];
  }
}

async function removeUser(admin: Caller, id: string, email: string): Promise<string[]> {
  try {
    const { status } = await admin.send('DELETE', `/users/${id}`);
    return status === 204 || status === 404 ? [] : [`The account ${email} could not be removed (${status}).`];
  } catch (error) {
    return [`The account ${email} could not be removed: ${(error as Error).message}`];
  }
}

/** @returns how it has ended; null: not in time, or it could not be asked */
async function ended(caller: Caller, job: string, longestMs: number): Promise<string | null> {
  for (const until = performance.now() + longestMs; performance.now() < until;) {
    const { status, body } = await caller.get(`/jobs/${job}`);
    if (status !== 200) return null;
    if (body['status'] !== 'queued' && body['status'] !== 'running') return String(body['status']);
    await sleep(POLL_MS, undefined, { signal: caller.server.signal });
  }
  return null;
}
