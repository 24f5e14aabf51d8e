import { Injectable } from '@nestjs/common';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ModelError } from './model.js';
import { toModelError } from './model-fault.js';
import type { ModelTrial } from './model-entry.js';
import type { UsableEntry } from './model-catalogue.service.js';
import type { ModelClient } from './model-client.js';
import { ModelClients } from './model-clients.service.js';
import { baseOf } from './model-provider.js';
import { ModelsService } from './models.service.js';

/** Milliseconds: somebody is waiting. */
const LONGEST = 30_000;
/** Thinking models think before they say anything. */
const MAX_TOKENS = 256;

/** One white pixel. */
const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==',
  'base64',
);

/** Tries models: with one real, tiny call that is made once. */
@Injectable()
export class ModelTrials {
  constructor(
    private readonly clients: ModelClients,
    private readonly models: ModelsService,
  ) {}

  /** In no transaction. @throws the reason of the signal; whatever else happens is the outcome */
  async try(entry: UsableEntry, signal: AbortSignal): Promise<ModelTrial> {
    const started = performance.now();
    const ended = (outcome: Partial<ModelTrial>): ModelTrial => ({
      ok: true,
      dimensions: null,
      error: null,
      ...outcome,
      latencyMs: Math.round(performance.now() - started),
    });
    try {
      return ended({ dimensions: await this.ask(entry, signal) });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof ModelError)) throw error;
      return ended({ ok: false, error });
    }
  }

  /** @returns the dimensions of an embedding model, null of others */
  private async ask(entry: UsableEntry, signal: AbortSignal): Promise<number | null> {
    if (entry.provider === 'bundled')
      return (await this.models.bundled().embedQuery('test', { signal })).length;
    const limits = { first: LONGEST, between: LONGEST, whole: LONGEST };
    const client = await this.clients.fresh(entry, { maxRetries: 0, limits });
    switch (entry.modelType) {
      case 'chat':
        await client.chat.complete([{ role: 'user', content: 'Answer with the word OK.' }], {
          maxTokens: MAX_TOKENS,
          signal,
        });
        return null;
      case 'embedding':
        return (await client.embedding.embedQuery('test', { signal })).length;
      case 'rerank':
        await client.rerank.rerank('Which animals bark?', ['Dogs bark.', 'Grass is green.'], { signal });
        return null;
      case 'image2text':
        await client.vision.read({ content: PIXEL, mimeType: 'image/png' }, { signal });
        return null;
      case 'asr':
        await hear(client, signal);
        return null;
      case 'tts':
        await speak(client, signal);
        return null;
    }
  }
}

/** A fifth of a second of silence (RIFF WAVE, 16 bit, 8 kHz). */
async function hear(client: ModelClient, signal: AbortSignal): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'enclave-trial-'));
  try {
    const path = join(folder, 'recording.wav');
    await writeFile(path, silence(1600));
    const recording = { path, mimeType: 'audio/wav', fileName: 'recording.wav' };
    await client.transcription.transcribe(recording, { signal });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function silence(samples: number): Buffer {
  const header = Buffer.alloc(44);
  header.write('RIFF', 0);
  header.writeUInt32LE(36 + 2 * samples, 4);
  header.write('WAVEfmt ', 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(8_000, 24);
  header.writeUInt32LE(16_000, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36);
  header.writeUInt32LE(2 * samples, 40);
  return Buffer.concat([header, Buffer.alloc(2 * samples)]);
}

/** Nothing speaks here so far: that its server gives a sound is all there is to be tried. */
async function speak(client: ModelClient, signal: AbortSignal): Promise<void> {
  const { connection } = client;
  const transport = client.transport();
  try {
    const response = await transport.fetch(`${baseOf(connection)}/audio/speech`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(connection.apiKey && { authorization: `Bearer ${connection.apiKey}` }),
      },
      body: JSON.stringify({ model: connection.modelName, input: 'OK.', voice: 'alloy' }),
      signal,
    });
    const type = response.headers.get('content-type') ?? '';
    const sound = await response.arrayBuffer();
    if (sound.byteLength > 0 && !/^(text|application\/(json|xml))/.test(type)) return;
    throw new ModelError('model_rejected', `${transport.subject} gave an answer that is no sound.`, false);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw toModelError(transport.subject, error);
  }
}
