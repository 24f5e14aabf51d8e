import { mkdir } from 'node:fs/promises';
import type { MessagePort } from 'node:worker_threads';
import { type Chunk, DocumentSplitter } from './chunk-splitter.js';
import { DocumentError } from './document-error.js';
import {
  BATCH_SIZE,
  BATCHES_AHEAD,
  type FromWorker,
  type LoadTask,
  type ToWorker,
} from './document-loader.protocol.js';
import type { Picture } from './document-parts.js';
import { readDocument } from './document-reader.js';

const ALIVE_EVERY = 2_000;

class Stopped extends Error {}

/** The thread's end of the conversation with the loader. */
class Conversation {
  private ahead = 0;
  private stopped = false;
  private heard = (): void => undefined;
  private text: string | null = null;

  constructor(private readonly port: MessagePort) {
    port.on('message', (message: ToWorker) => {
      if (message.type === 'taken') this.ahead--;
      else if (message.type === 'recognized') this.text = message.text;
      else this.stopped = true;
      this.heard();
    });
  }

  /** @throws Stopped */
  async give(chunks: Chunk[]): Promise<void> {
    for (let at = 0; at < chunks.length; at += BATCH_SIZE) {
      while (this.ahead >= BATCHES_AHEAD) await this.next();
      this.say({ type: 'chunks', chunks: chunks.slice(at, at + BATCH_SIZE) });
      this.ahead++;
    }
  }

  /** @throws Stopped */
  async recognize({ page, png }: Picture): Promise<string> {
    // The bytes go over as they are, so they must be nobody else's.
    const copy = png.slice();
    this.port.postMessage({ type: 'picture', picture: { page, png: copy } } satisfies FromWorker, [
      copy.buffer,
    ]);
    while (this.text === null) await this.next();
    const { text } = this;
    this.text = null;
    return text;
  }

  say(message: FromWorker): void {
    this.port.postMessage(message);
  }

  private async next(): Promise<void> {
    if (!this.stopped) await new Promise<void>(resolve => (this.heard = resolve));
    if (this.stopped) throw new Stopped();
  }
}

/** Entry of the worker threads of `document-loader.ts`. What it finds goes over the port, in its order. */
export default async function load(task: LoadTask): Promise<void> {
  const conversation = new Conversation(task.port);
  conversation.say({ type: 'started' });
  const alive = setInterval(() => conversation.say({ type: 'alive' }), ALIVE_EVERY);
  const reading = readDocument(task.path, task.source, {
    readable: task.readable,
    recognize: task.recognizes ? picture => conversation.recognize(picture) : null,
    scratch: async () => {
      await mkdir(task.scratch, { recursive: true, mode: 0o700 });
      return task.scratch;
    },
  });
  try {
    const splitter = await DocumentSplitter.of(task.split);
    let step = await reading.next();
    for (; !step.done; step = await reading.next()) await conversation.give(splitter.push(step.value));
    await conversation.give(splitter.end());
    conversation.say({ type: 'read', summary: step.value });
  } catch (error) {
    if (error instanceof DocumentError) {
      const { code, message, cause } = error;
      // Not every cause could be sent as it is.
      conversation.say({
        type: 'refused',
        code,
        message,
        cause: cause instanceof Error ? cause.stack : undefined,
      });
    } else if (!(error instanceof Stopped)) {
      throw error;
    }
  } finally {
    clearInterval(alive);
    await reading.return(undefined as never);
  }
}
