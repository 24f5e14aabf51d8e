import fs from 'node:fs';
import { QueryFailedError } from 'typeorm';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { TenantDatabase } from '../../src/core/tenancy/tenant-database.js';
import { ADMIN, type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { TEST_SECRET } from '../setup/database.js';
import { mailFolder } from '../setup/mail-folder.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { type WebhookReceiver, startWebhookReceiver } from '../setup/webhook-receiver.js';

const KEY_OF_SETTINGS = 'the-key-of-the-settings-0123';
const KEY_OF_TENANT = 'key-that-the-tenant-has-given-0123';
const PASSWORD = 'the first password, of one day';
const CHOSEN = 'the "second" password, chosen\\later';

let app: TestApplication;
let model: ModelServer;
let receiver: WebhookReceiver;
const lines: string[] = [];

beforeAll(async () => {
  [model, receiver] = await Promise.all([startModelServer(), startWebhookReceiver()]);
  const write = fs.write as (...all: unknown[]) => void;
  // Pino writes to the standard output through here.
  vi.spyOn(fs, 'write').mockImplementation(((fd: number, text: unknown, ...rest: unknown[]) => {
    if (fd !== 1) return write(fd, text, ...rest);
    lines.push(String(text));
    (rest.at(-1) as (error: null, written: number) => void)(null, Buffer.byteLength(String(text)));
  }) as typeof fs.write);
  app = await startTestApplication({
    LOG_LEVEL: 'trace',
    LOG_FORMAT: 'json',
    LLM_BASE_URL: model.url,
    LLM_API_KEY: KEY_OF_SETTINGS,
    LLM_MODEL: 'stub',
    OUTBOUND_ALLOWED_HOSTS: [receiver.host, new URL(model.origin).host].join(','),
  });
});
afterAll(async () => {
  vi.restoreAllMocks();
  await app?.close();
  await Promise.all([model?.close(), receiver?.close()]);
});
afterEach(() => lines.splice(0));

const tokenIn = (mail: { text?: string }) => /[\w-]{43}/.exec(mail.text ?? '')?.[0] as string;

it('no secret of a whole day stands in the log, at its most talkative', async () => {
  const secrets: Record<string, string> = {
    'the secret of the installation': TEST_SECRET,
    'the admin’s password': ADMIN.password,
    'the key of the settings': KEY_OF_SETTINGS,
    'the tenant’s key': KEY_OF_TENANT,
    'a password': PASSWORD,
    'a later password': CHOSEN,
  };
  const failures: Answer[] = [];
  const mails = mailFolder(app.env.dataDir);
  await app.createTenant('acme');
  await app.addText('acme', 'The warranty lasts ten years.');

  // An account, its sessions and its passwords.
  const account = { email: 'ada@example.com', password: PASSWORD };
  const made = (await expectStatus(201, app.anonymous.post('/auth/register', account))).body;
  secrets['an access token'] = made.access_token;
  secrets['a refresh token'] = made.refresh_token;
  const refreshed = await expectStatus(
    200,
    app.anonymous.post('/auth/refresh', { refresh_token: made.refresh_token }),
  );
  secrets['another access token'] = refreshed.body.access_token;
  secrets['another refresh token'] = refreshed.body.refresh_token;
  failures.push(await app.anonymous.post('/auth/refresh', { refresh_token: made.refresh_token }));
  secrets['a wrong password'] = 'not her password at all';
  failures.push(
    await app.anonymous.post('/auth/login', { ...account, password: secrets['a wrong password'] }),
  );
  await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: account.email }));
  const reset = tokenIn(await mails.waitFor(account.email));
  secrets['a token for a password'] = reset;
  failures.push(await app.anonymous.post('/auth/reset-password', { token: reset, new_password: 'x' }));
  await expectStatus(204, app.anonymous.post('/auth/reset-password', { token: reset, new_password: CHOSEN }));
  failures.push(await app.anonymous.post('/auth/reset-password', { token: reset, new_password: CHOSEN }));
  const signedIn = await expectStatus(
    200,
    app.anonymous.post('/auth/login', { ...account, password: CHOSEN }),
  );
  const ada = app.anonymous.withToken(signedIn.body.access_token);

  // What stands where it does not belong.
  await ada.get(`/auth/me?access_token=${made.access_token}&api_key=${KEY_OF_TENANT}`);
  secrets['a cookie'] = 'session-of-some-other-page';
  await ada.withHeaders({ cookie: `sid=${secrets['a cookie']}` }).get('/auth/me');
  secrets['a basic credential'] = Buffer.from(`ada:${PASSWORD}`).toString('base64');
  failures.push(
    await app.anonymous
      .withHeaders({ authorization: `Basic ${secrets['a basic credential']}` })
      .get('/auth/me'),
  );
  const broken = `{"email":"ada@example.com","password":"${PASSWORD}"`;
  failures.push(
    await app.anonymous.withHeaders({ 'content-type': 'application/json' }).post('/auth/login', broken),
  );

  // An invitation, whose token stands in the path.
  await expectStatus(
    201,
    app.admin.post('/tenants/acme/invitations', { email: account.email, role: 'owner' }),
  );
  await mails.waitFor(account.email, 3);
  const invitation = tokenIn(
    (await mails.messages()).find(
      ({ recipients, subject }) => recipients.includes(account.email) && /invite/i.test(subject ?? ''),
    ) ?? {},
  );
  secrets['an invitation'] = invitation;
  await expectStatus(200, app.anonymous.get(`/invitations/${invitation}`));
  await expectStatus(200, ada.post(`/invitations/${invitation}/accept`, {}));
  failures.push(await app.anonymous.get(`/invitations/${invitation}x`));

  // API tokens, in both headers, and after their end.
  const at = '/tenants/acme/api-tokens';
  const scopes = ['query:run', 'kb:read'];
  const token = (await expectStatus(201, ada.post(at, { name: 'Robot', scopes }))).body;
  const secret = JSON.stringify(token).match(/rk_live_[\w-]{43}/)?.[0] as string;
  secrets['an API token'] = secret;
  await app.anonymous.withToken(secret).get('/tenants/acme/kbs');
  await app.anonymous.withHeaders({ 'x-api-key': secret }).get('/tenants/acme/kbs');
  const rotated = await expectStatus(200, ada.post(`${at}/${token.id}/rotate`, { overlap_seconds: 0 }));
  secrets['its successor'] = JSON.stringify(rotated.body).match(/rk_live_[\w-]{43}/)?.[0] as string;
  failures.push(await app.anonymous.withHeaders({ 'x-api-key': secret }).get('/tenants/acme/kbs'));

  // Secrets that are kept for the tenant.
  secrets['a variable'] = 'what only the tenant knows';
  await ada.put('/tenants/acme/variables/SECRET_OF_ACME', { value: secrets['a variable'] });
  const webhook = await expectStatus(
    201,
    ada.post('/tenants/acme/webhooks', {
      url: `${receiver.url}/hook?token=of-the-receiver`,
      events: ['kb.*'],
    }),
  );
  secrets['the secret of a webhook'] = webhook.body.secret;
  secrets['the token in its address'] = 'of-the-receiver';
  receiver.answer('/hook', response => void response.writeHead(500).end('no'));
  await expectStatus(201, ada.post('/tenants/acme/kbs', { name: 'Another' }));

  // Servers that repeat the key that they refuse.
  const refusing = {
    status: 401,
    body: JSON.stringify({ error: { message: `Bad key ${KEY_OF_SETTINGS}` } }),
  };
  model.failNext({ for: 'chat', ...refusing });
  failures.push(
    await ada.post('/tenants/acme/kbs/docs/query', { query: 'How long does the warranty last?' }),
  );
  const entry = await expectStatus(
    201,
    ada.post('/tenants/acme/models', {
      provider: 'openai_compatible',
      model_type: 'chat',
      model_name: 'stub',
      api_base: model.url,
      api_key: KEY_OF_TENANT,
    }),
  );
  model.failNext({
    for: 'chat',
    status: 401,
    body: `{"error":{"message":"Incorrect key: ${KEY_OF_TENANT}"}}`,
  });
  failures.push(await ada.post(`/tenants/acme/models/${entry.body.id}/test`));

  // A fault of ours, with somebody's data in it.
  const driver = Object.assign(new Error('duplicate key value violates unique constraint "x"'), {
    code: 'XX000',
    detail: 'Key (text)=(a text of the tenant) already exists.',
  });
  secrets['a text of the tenant'] = 'a text of the tenant';
  const query = new QueryFailedError('INSERT INTO x VALUES ($1)', [secrets['a text of the tenant']], driver);
  const database = app.application.nest.get(TenantDatabase, { strict: false });
  const run = vi.spyOn(database, 'run').mockRejectedValue(query);
  const failed = await ada.get('/tenants/acme/kbs');
  run.mockRestore();
  expect(failed.status).toBe(500);
  failures.push(failed);

  const id = failed.headers.get('x-request-id') as string;
  await expect.poll(() => lines.join('')).toContain(id);
  const all = lines.join('');
  expect(all).toContain('INSERT INTO x VALUES');
  expect(all).toContain('"token_id"');
  for (const [what, value] of Object.entries(secrets)) {
    expect(value?.length, what).toBeGreaterThan(5);
    for (const form of [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)]) {
      expect(all.includes(form), `${what} in the log`).toBe(false);
    }
    // Nor in what is answered to whoever has failed, but for the path that they have sent themselves.
    for (const { body, status } of failures) {
      const told = JSON.stringify({ ...body, instance: null });
      expect(told.includes(value), `${what} in an answer ${status}`).toBe(false);
    }
  }
});
