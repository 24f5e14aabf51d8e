import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { CreditJobs } from '../../src/core/credits/credit-jobs.service.js';
import { EventsService } from '../../src/core/events/events.service.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from './application.js';
import { type Answer, Client } from './client.js';
import { type ModelServer, startModelServer } from './model-server.js';
import { asSuperuser } from './superuser.js';

export const MOST = Number.MAX_SAFE_INTEGER;
export const FACT = 'Frames carry a warranty of ten years. Batteries are covered for two years.';
export const QUESTION = 'How long is the warranty on frames?';

export let app: TestApplication;
export let model: ModelServer;
/** Set by a test, and withdrawn after it. */
export const priced = new Map<string, { operation: string; model: string | null }>();
export const heard: Array<{ tenantId: string; type: string; data: Record<string, unknown> }> = [];

/** What the tests of credits stand on: starts an application for the file that calls it, and ends it. */
export function useCreditsApplication(): void {
  beforeAll(async () => {
    heard.length = 0;
    model = await startModelServer();
    app = await startTestApplication({
      EMBEDDING_BASE_URL: model.url,
      EMBEDDING_MODEL: 'stub-embedding',
      LLM_BASE_URL: model.url,
      LLM_MODEL: 'stub-chat',
    });
    service(EventsService).listen(async (_, events) => void heard.push(...events));
  });
  afterAll(async () => {
    await app?.close();
    await model?.close();
  });
  afterEach(async () => {
    model.latency = 0;
    if (priced.size > 0)
      await setPrices([...priced.values()].map(price => ({ ...price, micro_credits: null })));
    priced.clear();
  });
}

export function service<T>(type: new (...parameters: never[]) => T): T {
  return app.application.nest.get<T>(type, { strict: false });
}

export type NewPrice = { operation: string; model?: string | null; micro_credits: number | null };

export async function setPrices(prices: NewPrice[]): Promise<void> {
  await expectStatus(200, app.admin.put('/prices', { prices }));
  for (const { operation, model: name = null } of prices)
    priced.set(`${operation}/${name}`, { operation, model: name });
}

export interface Fixture {
  id: string;
  name: string;
  kbId: string;
  owner: Client;
  path: string;
  kb: string;
}

/** A tenant with a document, made while nothing cost anything. */
export async function tenantWithText(): Promise<Fixture> {
  const name = `t-${randomUUID().slice(0, 8)}`;
  const { id, kbId } = await app.createTenant(name);
  expect((await app.addText(name, FACT)).status).toBe('ready');
  // Every question costs what it costs, also the second time.
  await expectStatus(200, app.admin.patch(`/tenants/${name}/config`, { enable_llm_cache: false }));
  const { client: owner } = await app.createMember(name, 'owner');
  return { id, name, kbId, owner, path: `/tenants/${name}/credits`, kb: `/tenants/${name}/kbs/docs` };
}

export const grant = (tenant: Fixture, amount: number, fields: object = {}): Promise<Answer> =>
  expectStatus(201, app.admin.post(tenant.path, { type: 'grant', amount, ...fields }));
export const account = async (tenant: Fixture) =>
  (await expectStatus(200, tenant.owner.get(tenant.path))).body;
export const ledger = async (tenant: Fixture, query = ''): Promise<any[]> =>
  (
    await expectStatus(200, tenant.owner.get(`${tenant.path}/ledger?page_size=100${query}`))
  ).body.items.toReversed();
export const search = (tenant: Fixture, client = tenant.owner) =>
  client.post(`${tenant.kb}/search`, { query: QUESTION, mode: 'keyword' });
export const ask = (tenant: Fixture, body: object = {}, client = tenant.owner) =>
  client.post(`${tenant.kb}/query`, { query: QUESTION, max_tokens: 1000, ...body });
export const superuser = (statement: string, values: unknown[] = []): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement, values)).rows,
  );
export const sweep = () => service(CreditJobs).sweep(new AbortController().signal);
export const inTenant = <T>({ id, name }: Fixture, work: () => Promise<T>) =>
  service(TenantContext).runAsSystem({ id, name }, work);

/** The ledger, and what it must say of itself. */
export async function checked(tenant: Fixture): Promise<any[]> {
  const entries = await ledger(tenant);
  const { balance, held } = await account(tenant);
  expect(entries.map(({ sequence }) => sequence)).toEqual(entries.map((_, index) => index + 1));
  let sum = 0;
  for (const { delta, balance_after: after } of entries) {
    sum += delta;
    expect(after).toBe(sum);
  }
  expect(sum).toBe(balance);
  expect(held).toBe(0);
  return entries;
}
