import { randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, expect } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from './application.js';
import type { Client } from './client.js';
import { asSuperuser } from './superuser.js';
import { type ReceivedMessage, type WebhookReceiver, startWebhookReceiver } from './webhook-receiver.js';

export const KEY = 'the key that seals what the tests of webhooks keep';

export let app: TestApplication;
export let receiver: WebhookReceiver;
export let acmeId: string;
export let owner: { id: string; email: string; client: Client };

/** What the tests of webhooks stand on: starts an application for the file that calls it, and ends it. */
export function useWebhooksApplication(): void {
  beforeAll(async () => {
    receiver = await startWebhookReceiver();
    app = await startTestApplication({ OUTBOUND_ALLOWED_HOSTS: receiver.host, ENCRYPTION_KEY: KEY });
    acmeId = (await app.createTenant('acme')).id;
    owner = await app.createMember('acme', 'owner');
  });
  afterAll(async () => {
    await app?.close();
    await receiver?.close();
  });
}

export const superuser = (statement: string, values: unknown[] = []): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement, values)).rows,
  );

let paths = 0;
/** A webhook on a path of its own. */
export async function createWebhook(fields: Record<string, unknown> = {}, tenant = 'acme') {
  const path = `/hook-${++paths}`;
  // What happened before goes to nobody new.
  const waiting = async () =>
    (await superuser('SELECT count(*)::int AS count FROM events'))[0].count as number;
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
  const { body } = await expectStatus(
    201,
    app.admin.post(`/tenants/${tenant}/webhooks`, {
      url: `${receiver.url}${path}`,
      events: ['group.*'],
      ...fields,
    }),
  );
  const at = `/tenants/${tenant}/webhooks/${body.id}`;
  const deliveries = async () =>
    (await expectStatus(200, app.admin.get(`${at}/deliveries?page_size=100`))).body.items as any[];
  return {
    id: body.id as string,
    secret: body.secret as string,
    path,
    at,
    deliveries,
    /** The one delivery, once it looks like this. */
    async delivery(expected: object) {
      await expect
        .poll(async () => (await deliveries())[0], { timeout: 20_000, interval: 50 })
        .toMatchObject(expected);
      const [{ id }] = (await deliveries()) as [{ id: string }];
      return (await expectStatus(200, app.admin.get(`${at}/deliveries/${id}`))).body;
    },
    remove: () => expectStatus(204, app.admin.delete(at)),
  };
}

/** Something that happens: `group.created`. */
export const makeGroup = async (tenant = 'acme') =>
  (await expectStatus(201, app.admin.post(`/tenants/${tenant}/groups`, { name: `Group ${randomUUID()}` })))
    .body;
export const verify = (message: ReceivedMessage, secret: string): any =>
  new Webhook(secret).verify(message.raw, message.headers as Record<string, string>);
