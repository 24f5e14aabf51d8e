import type { Client } from './client.js';

/** A server-sent event as it came. */
export interface StreamEvent {
  type: string;
  id: string | null;
  data: any;
}

/** A stream of server-sent events that is being read. */
export interface EventStream {
  status: number;
  headers: Headers;
  /** Of an answer that is no stream, its JSON. */
  body: any;
  /** What has come so far. */
  events: StreamEvent[];
  comments: number;
  /** Resolves once `condition` holds for what has come. @throws where the stream ends before, or nothing comes for 15 s */
  until(condition: (events: StreamEvent[]) => boolean): Promise<StreamEvent[]>;
  /** Resolves when the stream has ended: `cut` where its connection broke. */
  ended: Promise<'closed' | 'cut'>;
  /** Goes away. */
  leave(): void;
}

/**
 * @param path below `/api/v1`
 * @param body of a POST
 */
export async function openEvents(
  client: Client,
  path: string,
  headers: Record<string, string> = {},
  body?: unknown,
): Promise<EventStream> {
  const controller = new AbortController();
  const response = await fetch(`${client.url}/api/v1${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      authorization: `Bearer ${client.token}`,
      accept: 'text/event-stream',
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: controller.signal,
  });
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false;
  const listeners = new Set<() => void>();
  const stream: EventStream = {
    status: response.status,
    headers: response.headers,
    body: isStream ? null : await response.json().catch(() => null),
    events: [],
    comments: 0,
    until: condition =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => settle(new Error('Nothing more came in 15 s.')), 15_000);
        const settle = (error?: Error) => {
          clearTimeout(timer);
          listeners.delete(look);
          if (error) reject(new Error(`${error.message} ${JSON.stringify(stream.events)}`));
          else resolve(stream.events);
        };
        const look = () => condition(stream.events) && settle();
        listeners.add(look);
        look();
        void stream.ended.then(() => !condition(stream.events) && settle(new Error('The stream has ended.')));
      }),
    ended: Promise.resolve('closed'),
    leave: () => controller.abort(),
  };
  if (isStream) stream.ended = read(response, stream, () => listeners.forEach(listener => listener()));
  return stream;
}

async function read(response: Response, stream: EventStream, changed: () => void): Promise<'closed' | 'cut'> {
  let buffer = '';
  try {
    for await (const text of (response.body as ReadableStream).pipeThrough(new TextDecoderStream())) {
      buffer += text;
      const blocks = buffer.split('\n\n');
      buffer = blocks.pop() as string;
      for (const block of blocks) take(block, stream);
      changed();
    }
    return 'closed';
  } catch {
    return 'cut';
  }
}

function take(block: string, stream: EventStream): void {
  const fields = block.split('\n').map(line => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? ['', '']);
  const valueOf = (name: string) => fields.find(([field]) => field === name)?.[1] ?? null;
  const type = valueOf('event');
  if (fields.some(([field]) => field === '')) stream.comments++;
  if (type) stream.events.push({ type, id: valueOf('id'), data: JSON.parse(valueOf('data') as string) });
}
