import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { SERVER } from '../setup/database.js';
import { type WebhookReceiver, startWebhookReceiver } from '../setup/webhook-receiver.js';

const GROUPS = 60;

describe.skipIf(!SERVER)('webhooks of an installation with several workers', () => {
  let app: TestApplication;
  let receiver: WebhookReceiver;

  beforeAll(async () => {
    receiver = await startWebhookReceiver();
    app = await startTestApplication(
      { WORKER: 'external', OUTBOUND_ALLOWED_HOSTS: receiver.host },
      { http: true, jobs: false },
    );
    await app.createTenant('acme');
  });
  afterAll(async () => {
    await app?.close();
    await receiver?.close();
  });

  it('hear of each event once', async () => {
    const webhook = { url: `${receiver.url}/hook`, events: ['group.*'] };
    const { body } = await expectStatus(201, app.admin.post('/tenants/acme/webhooks', webhook));
    const create = (n: number) =>
      expectStatus(201, app.admin.post('/tenants/acme/groups', { name: `G ${n}` }));
    for (let n = 0; n < GROUPS / 2; n++) await create(n);
    const worker = { http: false, jobs: true };
    await Promise.all([app.startAnother(worker), app.startAnother(worker)]);
    for (let n = GROUPS / 2; n < GROUPS; n++) await create(n);
    await receiver.waitFor('/hook', GROUPS);
    const deliveries = `/tenants/acme/webhooks/${body.id}/deliveries`;
    await expect
      .poll(async () => (await app.admin.get(`${deliveries}?status=succeeded`)).body.total, {
        timeout: 20_000,
      })
      .toBe(GROUPS);
    expect((await app.admin.get(deliveries)).body.total).toBe(GROUPS);
    const ids = receiver.messages('/hook').map(({ headers }) => headers['webhook-id']);
    expect(ids).toHaveLength(GROUPS);
    expect(new Set(ids).size).toBe(GROUPS);
  });
});
