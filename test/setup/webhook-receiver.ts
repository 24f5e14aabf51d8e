import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

/** A message as it arrived. */
export interface ReceivedMessage {
  path: string;
  headers: IncomingHttpHeaders;
  /** As it was sent, for signatures. */
  raw: string;
  body: any;
  at: number;
}

export type Answering = (response: ServerResponse, message: ReceivedMessage) => void;

/** A server on the loopback that receives webhooks. */
export interface WebhookReceiver {
  /** `127.0.0.1:port`, for OUTBOUND_ALLOWED_HOSTS. */
  readonly host: string;
  readonly url: string;
  /** On which path to answer how, instead of 204. */
  answer(path: string, ...answers: Answering[]): void;
  /** In the order in which they came. */
  messages(path: string): ReceivedMessage[];
  /** Waits until `count` messages have come; the last of them. */
  waitFor(path: string, count?: number): Promise<ReceivedMessage>;
  close(): Promise<void>;
}

const WAIT_MS = 20_000;

export async function startWebhookReceiver(): Promise<WebhookReceiver> {
  const received: ReceivedMessage[] = [];
  const answers = new Map<string, Answering[]>();
  const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const raw = await text(request);
    const path = request.url ?? '';
    const body: unknown = raw === '' ? null : JSON.parse(raw);
    const message = { path, headers: request.headers, raw, body, at: Date.now() };
    received.push(message);
    const waiting = answers.get(path) ?? [];
    // The last of them holds for all that come after.
    const answering = waiting.length > 1 ? waiting.shift() : waiting[0];
    if (answering) answering(response, message);
    else response.writeHead(204).end();
  };
  const server = createServer((request, response) => void receive(request, response)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const messages = (path: string) => received.filter(message => message.path === path);
  return {
    host: `127.0.0.1:${port}`,
    url: `http://127.0.0.1:${port}`,
    answer: (path, ...next) => void answers.set(path, next),
    messages,
    async waitFor(path, count = 1) {
      for (let waited = 0; waited < WAIT_MS; waited += 20) {
        const found = messages(path)[count - 1];
        if (found) return found;
        await sleep(20);
      }
      throw new Error(`${path} has received ${messages(path).length} messages of ${count} in ${WAIT_MS} ms.`);
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** An answer with a status, and a body where there is one. */
export const status =
  (code: number, headers: Record<string, string> = {}, body = ''): Answering =>
  response =>
    void response.writeHead(code, headers).end(body);

/** Never answers. */
export const hang: Answering = () => undefined;
