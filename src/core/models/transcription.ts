import { stat } from 'node:fs/promises';
import { z } from 'zod';
import type { ModelEndpoint } from '../../foundation/config/env.js';
import type { CallOptions, Recording, Transcript, TranscriptionModel } from './model.js';
import type { Door } from './model-transport.js';
import { multipartBody } from './multipart-body.js';
import { RemoteService, timeFor } from './remote-service.js';
import { paragraphsOf } from './transcript.js';

/** Bytes: what ten hours of speech take with its segments, many times over. */
const MAX_ANSWER = 32 * 1024 * 1024;

/** With times; without; without a shell. Not every model gives each. */
const FORMATS = ['verbose_json', 'json', 'text'] as const;

const answerSchema = z.object({
  text: z.string().optional(),
  segments: z
    .array(z.object({ start: z.number(), end: z.number(), text: z.string() }))
    .nullish()
    .catch(null),
  usage: z
    .object({ input_tokens: z.number().catch(0), output_tokens: z.number().catch(0) })
    .nullish()
    .catch(null),
});

export interface OpenAITranscriptionOptions {
  /** Milliseconds of one attempt, by the bytes of the file. */
  timeout?: (sizeBytes: number) => number;
  /** Attempts after the first that failed for a passing reason. */
  maxRetries?: number;
  /** Who fails, as a sentence begins. */
  subject?: string;
  door?: Door;
}

/** A speech model behind `POST {baseUrl}/audio/transcriptions` of any OpenAI-compatible server. */
export class OpenAITranscription implements TranscriptionModel {
  readonly name: string;

  readonly #service: RemoteService;
  readonly #timeout: (sizeBytes: number) => number;
  /** Place in `FORMATS` of the first that the server has not refused. */
  #format = 0;

  constructor(
    settings: ModelEndpoint,
    {
      timeout = timeFor,
      maxRetries = 2,
      subject = 'The transcription endpoint',
      door,
    }: OpenAITranscriptionOptions = {},
  ) {
    this.name = settings.model;
    this.#timeout = timeout;
    this.#service = new RemoteService(
      subject,
      settings.baseUrl,
      settings.apiKey ? { authorization: `Bearer ${settings.apiKey}` } : {},
      maxRetries,
      door,
    );
  }

  async transcribe(recording: Recording, { signal }: CallOptions = {}): Promise<Transcript> {
    const { path, fileName, mimeType } = recording;
    const timeout = this.#timeout((await stat(path)).size);
    for (let format = this.#format; ; format++) {
      const fields = { model: this.name, response_format: FORMATS[format] as string };
      const { status, text } = await this.#service.send({
        method: 'POST',
        path: '/audio/transcriptions',
        body: () => multipartBody(fields, { field: 'file', path, fileName, mimeType }),
        timeout,
        mostBytes: MAX_ANSWER,
        accept: [400, 422],
        signal,
      });
      if (status < 300) return this.#parse(text);
      // Of a refusal it is looked at whether it is about the format, and nothing else: it may quote anything.
      if (!text.includes('response_format') || format === FORMATS.length - 1) {
        throw this.#service.refused(status);
      }
      this.#format = Math.max(this.#format, format + 1);
    }
  }

  #parse(body: string): Transcript {
    const json = jsonOf(body);
    // Some servers answer with the bare text, whatever they were asked for; a page of HTML is no transcript.
    if (json === undefined) {
      if (body.trimStart().startsWith('<'))
        throw this.#service.malformed('gave an answer that is no transcript');
      return { text: body.trim(), format: 'plain', inputTokens: 0, outputTokens: 0 };
    }
    const answer = answerSchema.safeParse(typeof json === 'string' ? { text: json } : json);
    const { text, segments, usage } = answer.data ?? {};
    if (text === undefined && !segments) {
      throw this.#service.malformed('gave an answer that is no transcript');
    }
    return {
      ...(segments && segments.length > 0
        ? paragraphsOf(segments)
        : { text: (text ?? '').trim(), format: 'plain' as const }),
      inputTokens: usage?.input_tokens ?? 0,
      outputTokens: usage?.output_tokens ?? 0,
    };
  }
}

function jsonOf(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
