import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { Client } from '../test/setup/client.js';
import { ADMIN } from './installation.js';

const LANES_PER_TENANT = 5;
/** Between two requests of a lane: the load is bounded. */
const PAUSE_MS = 15;
const LONGEST_WAIT_MS = 30_000;
const PASSWORD = 'a password of the benchmarks';

/** How an answer, or none, counts. */
export type Outcome = '2xx' | '4xx' | '503' | 'unclean';

export interface Counted {
  requests: number;
  outcomes: Record<Outcome, number>;
  /** What was unclean or refused, in words, with how often. */
  notes: Map<string, number>;
  /** Answers in which something of the other tenant stood. */
  crossed: number;
  /** When the last answer came that was not 2xx. */
  lastTrouble: number;
  /** When each tenant was first served after that, and after the fault. */
  servedSince: Map<string, number>;
}

/** Refusals that a request of this load may meet: somebody was quicker, or asks less often. */
const CLEAN = new Set([409, 429]);

interface Tenant {
  name: string;
  /** Stands in everything that this tenant keeps. */
  mark: string;
  token: string;
  /** What was acknowledged. */
  documents: Set<string>;
  groups: Set<string>;
  members: Set<string>;
  /** Descriptions that were sent since one was acknowledged, and that one: any of them may stand there now. */
  descriptions: string[];
}

/** Two tenants at work side by side, each in lanes of its own; everything that was acknowledged is kept in mind. */
export class Load {
  private counted = nothing();
  private running = false;
  private lanes: Array<Promise<void>> = [];
  private number = 0;
  /** When each request began that has no answer yet. */
  private readonly underWay = new Set<{ since: number }>();
  private readonly pool: Pool;

  private constructor(
    private readonly url: string,
    private readonly tenants: Tenant[],
  ) {
    this.pool = new Pool(url, {
      connections: LANES_PER_TENANT * tenants.length,
      headersTimeout: LONGEST_WAIT_MS,
      bodyTimeout: LONGEST_WAIT_MS,
    });
  }

  static async create(url: string): Promise<Load> {
    const nobody = new Client(url);
    const { access_token: token } = await expect(200, nobody.post('/auth/login', ADMIN));
    const admin = nobody.withToken(token);
    const tenants: Tenant[] = [];
    for (const name of ['amber', 'birch']) {
      const mark = `${name}mark${Math.random().toString(36).slice(2, 8)}`;
      await expect(201, admin.post('/tenants', { name }));
      const registered = await expect(
        201,
        nobody.post('/auth/register', { email: `owner@${name}.example`, password: PASSWORD }),
      );
      await expect(
        201,
        admin.post(`/tenants/${name}/members`, { user_id: registered.user.id, role: 'owner' }),
      );
      await expect(201, admin.post(`/tenants/${name}/kbs`, { name: 'Docs' }));
      tenants.push({
        name,
        mark,
        token: registered.access_token,
        documents: new Set(),
        groups: new Set(),
        members: new Set(),
        descriptions: [''],
      });
    }
    const load = new Load(url, tenants);
    for (const tenant of tenants) for (let first = 0; first < 5; first++) await load.addDocument(tenant);
    const unsettled = await load.settled();
    if (unsettled.length > 0) throw new Error(`Not ingested before any fault: ${unsettled.join(', ')}`);
    return load;
  }

  start(): void {
    this.counted = nothing();
    this.running = true;
    this.lanes = this.tenants.flatMap(tenant =>
      Array.from({ length: LANES_PER_TENANT }, (_, lane) => this.lane(tenant, lane)),
    );
  }

  async stop(): Promise<Counted> {
    this.running = false;
    await Promise.all(this.lanes);
    return this.counted;
  }

  get soFar(): Counted {
    return this.counted;
  }

  /** From now on it counts who is served again. */
  faultEnded(): void {
    this.counted.servedSince.clear();
  }

  /** @returns when, of all tenants, the last one was first served since the last trouble and the fault's end; null: not yet */
  get servedAgain(): number | null {
    const served = this.tenants.map(({ name }) => this.counted.servedSince.get(name) ?? null);
    return served.includes(null) ? null : Math.max(...(served as number[]));
  }

  /** Milliseconds for which the oldest request has been waiting: a server that answers nobody troubles nobody. */
  get longestWait(): number {
    return performance.now() - Math.min(performance.now(), ...[...this.underWay].map(({ since }) => since));
  }

  async close(): Promise<void> {
    await this.pool.destroy();
  }

  /** Waits until every document has been ingested. @returns those that were not */
  async settled(timeout = 90_000): Promise<string[]> {
    const waiting = async (tenant: Tenant): Promise<string[]> => {
      const { status, body } = await this.client(tenant).get(`/tenants/${tenant.name}/kbs/docs/stats`);
      if (status !== 200) return [`${tenant.name}: ${status}`];
      const { ready = 0, ...others } = body.documents_by_status as Record<string, number>;
      const rest = Object.entries(others).filter(([, count]) => count > 0);
      return ready > 0 && rest.length === 0
        ? []
        : rest.map(([what, count]) => `${tenant.name}: ${count} ${what}`);
    };
    const unanswered = (error: unknown) => [`it could not be asked: ${(error as Error).message}`];
    for (const until = performance.now() + timeout; ;) {
      const left = (await Promise.all(this.tenants.map(tenant => waiting(tenant).catch(unanswered)))).flat();
      if (left.length === 0 || performance.now() > until) return left;
      await sleep(200);
    }
  }

  /** Reads back what was acknowledged. @returns what is not there */
  async lost(): Promise<string[]> {
    const missing: string[] = [];
    for (const tenant of this.tenants) {
      const base = `/tenants/${tenant.name}`;
      const kinds: Array<[what: string, path: string, wanted: Set<string>, id: string]> = [
        ['document', `${base}/kbs/docs/documents`, tenant.documents, 'id'],
        ['group', `${base}/groups`, tenant.groups, 'id'],
        ['member', `${base}/members`, tenant.members, 'user_id'],
      ];
      for (const [what, path, wanted, id] of kinds) {
        const there = new Set((await this.all(tenant, path)).map(item => item[id] as string));
        for (const one of wanted) if (!there.has(one)) missing.push(`${what} ${one} of ${tenant.name}`);
      }
      const { description } = await expect(200, this.client(tenant).get(base));
      if (!tenant.descriptions.includes(description))
        missing.push(`setting of ${tenant.name}: "${description}" instead of "${tenant.descriptions[0]}"`);
    }
    return missing;
  }

  private async all(tenant: Tenant, path: string): Promise<Array<Record<string, unknown>>> {
    const items: Array<Record<string, unknown>> = [];
    for (let page = 1; ; page++) {
      const body = await expect(200, this.client(tenant).get(`${path}?page=${page}&page_size=100`));
      items.push(...body.items);
      if (body.items.length < 100) return items;
    }
  }

  private client(tenant: Tenant): Client {
    return new Client(this.url, tenant.token);
  }

  private async lane(tenant: Tenant, lane: number): Promise<void> {
    for (let turn = lane; this.running; turn++) {
      await this.step(tenant, lane, turn);
      await sleep(PAUSE_MS);
    }
  }

  private async step(tenant: Tenant, lane: number, turn: number): Promise<void> {
    const base = `/tenants/${tenant.name}`;
    const kb = `${base}/kbs/docs`;
    switch (turn % 10) {
      case 0:
        // A question that nobody has asked: its vector is in no memory.
        return void (await this.send(tenant, 'POST', `${kb}/search`, {
          query: `subject ${turn % 7}, ${++this.number}`,
        }));
      case 1:
        return void (await this.send(tenant, 'GET', `${kb}/documents?page_size=5&sort=-created_at`));
      case 2:
        return this.addDocument(tenant);
      case 3:
        return void (await this.send(tenant, 'POST', `${kb}/query`, {
          query: `What of subject ${turn % 7}?`,
        }));
      case 4:
        return this.add(tenant, tenant.groups, `${base}/groups`, { name: this.named(tenant) }, 'id');
      case 5:
        // One lane alone: else nobody knows whose description stands in the end.
        return lane === 0 ? this.describe(tenant) : void (await this.send(tenant, 'GET', base));
      case 6:
        return this.add(
          tenant,
          tenant.members,
          `${base}/members`,
          { user: { email: `${this.named(tenant)}@example.com` }, role: 'viewer' },
          'user_id',
        );
      default:
        return void (await this.send(tenant, 'POST', `${kb}/search`, {
          query: `subject ${turn % 7}`,
          mode: 'keyword',
        }));
    }
  }

  private named = ({ mark }: Tenant): string => `${mark}-${++this.number}`;

  private addDocument(tenant: Tenant): Promise<void> {
    const number = ++this.number;
    const text = `# Subject ${number % 7}\n\nText ${number} of ${tenant.mark} is about subject ${number % 7} and ${tenant.mark}.`;
    return this.add(
      tenant,
      tenant.documents,
      `/tenants/${tenant.name}/kbs/docs/documents/text`,
      { text },
      'id',
    );
  }

  private async add(
    tenant: Tenant,
    acknowledged: Set<string>,
    path: string,
    body: unknown,
    id: string,
  ): Promise<void> {
    const made = await this.send(tenant, 'POST', path, body);
    if (made) acknowledged.add(made[id] as string);
  }

  private async describe(tenant: Tenant): Promise<void> {
    const description = this.named(tenant);
    tenant.descriptions.push(description);
    if (await this.send(tenant, 'PATCH', `/tenants/${tenant.name}`, { description }))
      tenant.descriptions = [description];
  }

  /** @returns the body of what was answered with 2xx */
  private async send(
    tenant: Tenant,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<Record<string, unknown> | null> {
    const { counted } = this;
    counted.requests++;
    const request = { since: performance.now() };
    this.underWay.add(request);
    try {
      const answer = await this.pool.request({
        method: method as 'GET',
        path: `/api/v1${path}`,
        headers: {
          authorization: `Bearer ${tenant.token}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        body: body === undefined ? null : JSON.stringify(body),
      });
      const text = await answer.body.text();
      const foreign = this.tenants.filter(other => other !== tenant).some(({ mark }) => text.includes(mark));
      if (foreign) counted.crossed++;
      const outcome = outcomeOf(answer.statusCode, answer.headers, text);
      // Before it counts as served: a body that is no JSON is none.
      const made = outcome === '2xx' ? (JSON.parse(text) as Record<string, unknown>) : null;
      this.count(
        tenant,
        outcome,
        `${answer.statusCode} ${codeOf(text)}: ${method} ${path.replace(/\?.*/, '')}`,
      );
      return made;
    } catch (error) {
      this.count(
        tenant,
        'unclean',
        `${(error as Error).name}: ${(error as Error).message}: ${method} ${path}`,
      );
      return null;
    } finally {
      this.underWay.delete(request);
    }
  }

  private count({ name }: Tenant, outcome: Outcome, note: string): void {
    const { outcomes, servedSince } = this.counted;
    outcomes[outcome]++;
    if (outcome === '2xx') {
      if (!servedSince.has(name)) servedSince.set(name, performance.now());
      return;
    }
    this.counted.lastTrouble = performance.now();
    servedSince.clear();
    const told = note.replace(/\/tenants\/\w+/, '/tenants/…');
    this.counted.notes.set(told, (this.counted.notes.get(told) ?? 0) + 1);
  }
}

function outcomeOf(status: number, headers: Record<string, unknown>, text: string): Outcome {
  if (status < 300) return '2xx';
  const isProblem =
    String(headers['content-type']).startsWith('application/problem+json') && codeOf(text) !== '';
  if (!isProblem) return 'unclean';
  if (status === 503 || status === 504) return headers['retry-after'] ? '503' : 'unclean';
  return CLEAN.has(status) ? '4xx' : 'unclean';
}

function codeOf(text: string): string {
  try {
    return (JSON.parse(text) as { code?: string }).code ?? '';
  } catch {
    return '';
  }
}

const nothing = (): Counted => ({
  requests: 0,
  outcomes: { '2xx': 0, '4xx': 0, '503': 0, unclean: 0 },
  notes: new Map(),
  crossed: 0,
  lastTrouble: 0,
  servedSince: new Map(),
});

async function expect(status: number, answer: Promise<{ status: number; body: any }>): Promise<any> {
  const got = await answer;
  if (got.status !== status)
    throw new Error(`Expected ${status}, got ${got.status}: ${JSON.stringify(got.body)}`);
  return got.body;
}
