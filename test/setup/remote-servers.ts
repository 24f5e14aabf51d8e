import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Fault, fail } from './model-server.js';

/** A form as a service received it. */
export interface ReceivedForm {
  fields: Record<string, string>;
  file: { field: string; name: string; type: string; content: Buffer };
  headers: IncomingMessage['headers'];
}

/** What a recording says, with the seconds of each segment. */
export interface Speech {
  text: string;
  segments?: Array<{ start: number; end: number; text: string }>;
}

export interface RemoteServers {
  /** Settings of an installation that uses all of them. */
  readonly settings: Record<string, string>;
  /** Base URL of the model servers, with `/v1`; of Docling, without. */
  readonly url: string;
  readonly doclingUrl: string;
  /** Requests received, by `METHOD /path`, whose ids are `:id`; those that met a fault count. */
  readonly requests: Map<string, number>;
  readonly lastForm: ReceivedForm | null;
  /** The pictures that were looked at, as their data URLs. */
  readonly pictures: string[];
  /** What is said in recordings. */
  speech: Speech;
  /** Formats of transcripts that the server refuses, as newer models do. */
  refusedFormats: string[];
  /** What stands in a picture, by how many were looked at before it. */
  see: (index: number) => string;
  /** What Docling makes of a file. */
  convert: (form: ReceivedForm) => { status: string; markdown: string };
  /** How often Docling says of a task that it has not ended yet. */
  pending: number;
  /** The next requests meet these faults, in turn. */
  failNext(...faults: Fault[]): void;
  close(): Promise<void>;
}

const KEY = 'key-of-the-remote-servers';

/** Speech, vision and Docling on this machine, under one address; deterministic. */
export async function startRemoteServers(): Promise<RemoteServers> {
  const faults: Fault[] = [];
  const requests = new Map<string, number>();
  const pictures: string[] = [];
  const tasks = new Map<string, { asked: number; form: ReceivedForm }>();
  let lastForm: ReceivedForm | null = null;

  const routes: Record<string, (body: Buffer, request: IncomingMessage, id: string) => Promise<Answer>> = {
    'POST /v1/audio/transcriptions': async (body, request) => {
      const form = await formOf(body, request);
      lastForm = form;
      const format = form.fields['response_format'] as string;
      if (servers.refusedFormats.includes(format)) {
        return { status: 400, json: { error: { message: `response_format '${format}' is not compatible` } } };
      }
      const { text, segments } = servers.speech;
      if (format === 'text') return { text };
      const usage = { type: 'tokens', input_tokens: 40, output_tokens: 9 };
      return { json: format === 'verbose_json' ? { task: 'transcribe', text, segments } : { text, usage } };
    },
    'POST /v1/chat/completions': async body => {
      const [message] = (JSON.parse(body.toString()) as VisionRequest).messages;
      const picture = message?.content.find(part => part.type === 'image_url')?.image_url?.url ?? '';
      const text = servers.see(pictures.push(picture) - 1);
      return {
        json: {
          id: 'chatcmpl-1',
          object: 'chat.completion',
          choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }],
          usage: { prompt_tokens: 100, completion_tokens: 7, total_tokens: 107 },
        },
      };
    },
    'POST /v1/convert/file/async': async (body, request) => {
      lastForm = await formOf(body, request);
      const id = `task-${tasks.size}`;
      tasks.set(id, { asked: 0, form: lastForm });
      return { json: { task_id: id, task_type: 'convert', task_status: 'pending', task_position: 1 } };
    },
    'GET /v1/status/poll/:id': async (_body, _request, id) => {
      const task = tasks.get(id);
      if (!task) return { status: 404, json: { detail: 'Task not found.' } };
      const done = task.asked++ >= servers.pending;
      return { json: { task_id: id, task_type: 'convert', task_status: done ? 'success' : 'started' } };
    },
    'GET /v1/result/:id': async (_body, _request, id) => {
      const task = tasks.get(id);
      if (!task) return { status: 404, json: { detail: 'Task not found.' } };
      const { status, markdown } = servers.convert(task.form);
      return { json: { document: { filename: 'document', md_content: markdown }, status, errors: [] } };
    },
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const path = request.url?.split('?', 1)[0] ?? '';
    const id = /[^/]*$/.exec(path)?.[0] as string;
    const own = `${request.method} ${path}`;
    const route = own in routes ? own : own.replace(/[^/]*$/, ':id');
    requests.set(route, (requests.get(route) ?? 0) + 1);
    const fault = faults.shift();
    if (fault) return fail(response, fault);
    const docling = /convert|status|result/.test(route);
    const key = docling
      ? request.headers['x-api-key']
      : request.headers.authorization?.replace('Bearer ', '');
    if (key !== KEY)
      return send(response, { status: 401, json: { error: { message: `bad key ${String(key)}` } } });
    return send(
      response,
      (await routes[route]?.(Buffer.concat(parts), request, id)) ?? { status: 404, json: {} },
    );
  };

  const http = createServer((request, response) => {
    answer(request, response).catch((error: unknown) =>
      send(response, { status: 400, json: { error: { message: String(error) } } }),
    );
  });
  await new Promise<void>(resolve => {
    http.listen(0, '127.0.0.1', resolve);
  });
  const doclingUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;

  const servers: RemoteServers = {
    url: `${doclingUrl}/v1`,
    doclingUrl,
    settings: {
      VISION_BASE_URL: `${doclingUrl}/v1`,
      VISION_API_KEY: KEY,
      VISION_MODEL: 'stub-vision',
      TRANSCRIPTION_BASE_URL: `${doclingUrl}/v1`,
      TRANSCRIPTION_API_KEY: KEY,
      TRANSCRIPTION_MODEL: 'stub-speech',
      DOCLING_URL: doclingUrl,
      DOCLING_API_KEY: KEY,
    },
    requests,
    get lastForm() {
      return lastForm;
    },
    pictures,
    speech: { text: 'Good morning.' },
    refusedFormats: [],
    see: () => 'A picture of words.',
    convert: ({ file }) => ({ status: 'success', markdown: `# Converted\n\nFrom ${file.name}.` }),
    pending: 1,
    failNext: (...next) => void faults.push(...next),
    close: () =>
      new Promise((resolve, reject) => {
        http.close(error => (error ? reject(error) : resolve()));
        http.closeAllConnections();
      }),
  };
  return servers;
}

/** A second of a tone, as a WAV file (16 bit, mono): no more than a header and samples. */
export function wavOf(seconds = 1, rate = 8_000): Buffer {
  const samples = Buffer.alloc(seconds * rate * 2);
  for (let i = 0; i < seconds * rate; i++) {
    samples.writeInt16LE(Math.round(8_000 * Math.sin((i * 2 * Math.PI * 440) / rate)), i * 2);
  }
  const header = Buffer.alloc(44);
  header.write('RIFF', 0, 'latin1');
  header.writeUInt32LE(36 + samples.length, 4);
  header.write('WAVEfmt ', 8, 'latin1');
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(rate, 24);
  header.writeUInt32LE(rate * 2, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36, 'latin1');
  header.writeUInt32LE(samples.length, 40);
  return Buffer.concat([header, samples]);
}

interface VisionRequest {
  messages: Array<{ content: Array<{ type: string; image_url?: { url: string } }> }>;
}

type Answer = { status?: number; json: unknown } | { status?: number; text: string };

function send(response: ServerResponse, answer: Answer): void {
  const [type, body] =
    'text' in answer ? ['text/plain', answer.text] : ['application/json', JSON.stringify(answer.json)];
  response.writeHead(answer.status ?? 200, { 'content-type': type }).end(body);
}

/** A multipart body with one file, as another implementation of the format reads it. */
async function formOf(body: Buffer, { headers }: IncomingMessage): Promise<ReceivedForm> {
  if (Number(headers['content-length']) !== body.length) throw new Error('The length is not as announced.');
  const form = await new Response(Uint8Array.from(body), {
    headers: { 'content-type': headers['content-type'] as string },
  }).formData();
  const fields: Record<string, string> = {};
  let file: ReceivedForm['file'] | null = null;
  for (const [field, value] of form) {
    if (typeof value === 'string') fields[field] = value;
    else {
      file = { field, name: value.name, type: value.type, content: Buffer.from(await value.arrayBuffer()) };
    }
  }
  if (!file) throw new Error('There is no file in the form.');
  return { fields, file, headers };
}
