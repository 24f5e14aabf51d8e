import { type TestApplication, expectStatus } from './application.js';
import type { Client } from './client.js';

let tokens = 0;

/** Makes an API token. @returns what the API answered, and a client that sends its secret */
export async function issueToken(
  app: TestApplication,
  as: Client,
  tenant: string,
  fields: Record<string, unknown> = {},
): Promise<{ id: string; secret: string; client: Client; body: any }> {
  const token = { name: `token ${++tokens}`, scopes: ['tenant:read', 'kb:read', 'query:run'], ...fields };
  const { body } = await expectStatus(201, as.post(`/tenants/${tenant}/api-tokens`, token));
  return { id: body.id, secret: body.secret, client: app.anonymous.withToken(body.secret), body };
}
