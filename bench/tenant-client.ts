import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import { multipartBody } from '../src/core/models/multipart-body.js';
import { type Answer, Client } from '../test/setup/client.js';
import { ADMIN } from './installation.js';

/** Seldom: asking takes CPU from what is measured. */
const POLL_MS = 200;

export interface KbStatistics {
  document_count: number;
  chunk_count: number;
  documents_by_status: Record<string, number>;
}

/** The platform admin, at work in one knowledge base; what is not answered as expected throws. */
export class TenantClient {
  private constructor(
    private readonly client: Client,
    readonly tenant: string,
  ) {}

  /** Makes a tenant with the knowledge base `docs`. */
  static async create(
    url: string,
    tenant: string,
    config: Record<string, unknown> = {},
  ): Promise<TenantClient> {
    const made = await TenantClient.open(url, tenant);
    await made.expect(201, 'POST', '/tenants', { name: tenant });
    await made.expect(201, 'POST', `/tenants/${tenant}/kbs`, { name: 'Docs', config });
    return made;
  }

  /** One that is there already. */
  static async open(url: string, tenant: string): Promise<TenantClient> {
    const nobody = new TenantClient(new Client(url), tenant);
    const { access_token: token } = await nobody.expect(200, 'POST', '/auth/login', ADMIN);
    return new TenantClient(new Client(url).withToken(token), tenant);
  }

  /** @returns the body of an answer with this status */
  async expect(status: number, method: string, path: string, body?: unknown): Promise<any> {
    const answer = await this.client.send(method, path, body);
    if (answer.status === status) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** An answer, whatever it is. @param path below the knowledge base */
  send(method: string, path: string, body?: unknown): Promise<Answer> {
    return this.client.send(method, `/tenants/${this.tenant}/kbs/docs${path}`, body);
  }

  /** @param path below the knowledge base */
  inKb(status: number, method: string, path: string, body?: unknown): Promise<any> {
    return this.expect(status, method, `/tenants/${this.tenant}/kbs/docs${path}`, body);
  }

  /** @returns its id */
  async addText(text: string): Promise<string> {
    return (await this.inKb(202, 'POST', '/documents/text', { text })).id;
  }

  /** Uploads a file from the disk, streamed. @returns its id */
  async addFile(path: string, fileName: string, mimeType: string): Promise<string> {
    const { headers, content } = await multipartBody({}, { field: 'file', path, fileName, mimeType });
    const address = `${this.client.url}/api/v1/tenants/${this.tenant}/kbs/docs/documents`;
    const answer = await request(address, {
      method: 'POST',
      headers: { ...headers, authorization: `Bearer ${this.client.token}` },
      body: content,
      headersTimeout: 0,
    });
    const body: any = await answer.body.json();
    const [document] = body.documents ?? body.items ?? [body];
    if (answer.statusCode === 202 && document?.id) return document.id;
    throw new Error(`Upload of ${fileName}: ${answer.statusCode} ${JSON.stringify(body)}`);
  }

  stats(): Promise<KbStatistics> {
    return this.inKb(200, 'GET', '/stats');
  }

  document(id: string): Promise<any> {
    return this.inKb(200, 'GET', `/documents/${id}`);
  }

  /** Waits until nothing is queued or processing any more. */
  async settled(timeout: number): Promise<KbStatistics> {
    for (const until = performance.now() + timeout; ;) {
      const stats = await this.stats();
      const { queued = 0, processing = 0 } = stats.documents_by_status;
      if (queued + processing === 0) return stats;
      if (performance.now() > until) {
        throw new Error(`Not all was ingested in ${timeout / 1000} s: ${JSON.stringify(stats)}`);
      }
      await sleep(POLL_MS);
    }
  }
}

/** Runs `work` for 0 … count - 1, so many at a time. */
export async function inParallel(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
}
