import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { ModelError } from '../../core/models/model.js';
import { multipartBody } from '../../core/models/multipart-body.js';
import { RemoteService, timeFor } from '../../core/models/remote-service.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';

/** Bytes of Markdown in JSON: a book of some ten thousand pages. */
const MAX_ANSWER = 64 * 1024 * 1024;
const MAX_STATUS = 64 * 1024;
/** Seconds that the service may hold back the answer to "is it done?". */
const POLL_WAIT = 5;
const POLL_TIMEOUT = 30_000;
/** Milliseconds between two questions, where the service answers each at once. */
const POLL_PAUSE = 500;
/** Between two pages: nothing that a document has, and no Markdown. */
const PAGE_BREAK = '<!--enclave:page-break-->';

const taskSchema = z.object({ task_id: z.string().regex(/^[\w-]{1,100}$/), task_status: z.string() });
const resultSchema = z.object({
  status: z.enum(['success', 'partial_success', 'failure', 'skipped']),
  document: z.object({ md_content: z.string().nullish() }).nullish(),
});

export interface DoclingOptions {
  /** Milliseconds for one file, by its bytes. */
  timeout?: (sizeBytes: number) => number;
  /** Attempts of a request after the first that failed for a passing reason. */
  maxRetries?: number;
}

/** What became of a file. */
export interface DoclingText {
  markdown: string;
  pageCount: number;
  /** Whether some of the file could not be read. */
  partly: boolean;
}

/**
 * A Docling service. Files are handed to it as tasks: it does not hold an answer back for longer than two minutes, and text
 * recognition takes longer.
 *
 * Source: https://github.com/docling-project/docling-serve, API v1
 */
export class DoclingClient {
  private readonly service: RemoteService;
  private readonly timeout: (sizeBytes: number) => number;

  constructor(
    settings: { url: string; apiKey: string | null },
    { timeout = timeFor, maxRetries = 2 }: DoclingOptions = {},
  ) {
    this.timeout = timeout;
    this.service = new RemoteService(
      'The Docling service',
      settings.url,
      settings.apiKey ? { 'x-api-key': settings.apiKey } : {},
      maxRetries,
    );
  }

  /**
   * @param fileName with the extension of its type
   * @throws DocumentError `damaged` where the service can make nothing of the file; ModelError where the service fails
   */
  async convert(
    file: { path: string; fileName: string; mimeType: string },
    signal: AbortSignal,
  ): Promise<DoclingText> {
    const timeout = this.timeout((await stat(file.path)).size);
    const until = performance.now() + timeout;
    let task = await this.submit(file, timeout, signal);
    const id = task.task_id;
    for (let asked = -Infinity; ['pending', 'started'].includes(task.task_status);) {
      if (performance.now() > until) {
        throw new ModelError('model_timeout', 'The Docling service did not answer in time.', true);
      }
      const rest = asked + POLL_PAUSE - performance.now();
      if (rest > 0) await sleep(rest, undefined, { signal }).catch(() => signal.throwIfAborted());
      asked = performance.now();
      task = await this.ask(`/v1/status/poll/${id}?wait=${POLL_WAIT}`, taskSchema, MAX_STATUS, signal);
    }
    if (task.task_status === 'failure') throw unreadable();
    const { status, document } = await this.ask(`/v1/result/${id}`, resultSchema, MAX_ANSWER, signal);
    const content = document?.md_content ?? '';
    if (status === 'failure' || status === 'skipped') throw unreadable();
    const pages = content.split(PAGE_BREAK);
    return {
      markdown: pages.join('\n\n').trim(),
      pageCount: pages.length,
      partly: status === 'partial_success',
    };
  }

  private async submit(
    file: { path: string; fileName: string; mimeType: string },
    timeout: number,
    signal: AbortSignal,
  ): Promise<z.infer<typeof taskSchema>> {
    const fields = {
      to_formats: 'md',
      do_ocr: 'true',
      // Pictures would come as data: URLs within the text.
      image_export_mode: 'placeholder',
      md_page_break_placeholder: PAGE_BREAK,
    };
    const { text } = await this.service.send({
      method: 'POST',
      path: '/v1/convert/file/async',
      body: () => multipartBody(fields, { field: 'files', ...file }),
      timeout,
      mostBytes: MAX_STATUS,
      signal,
    });
    return this.parse(text, taskSchema);
  }

  private async ask<T>(
    path: string,
    schema: z.ZodType<T>,
    mostBytes: number,
    signal: AbortSignal,
  ): Promise<T> {
    const { status, text } = await this.service.send({
      method: 'GET',
      path,
      timeout: POLL_TIMEOUT,
      mostBytes,
      accept: [404],
      signal,
    });
    // It keeps tasks in memory: after a restart it knows none of them.
    if (status === 404) {
      throw new ModelError('model_unavailable', 'The Docling service has forgotten its task.', true);
    }
    return this.parse(text, schema);
  }

  private parse<T>(text: string, schema: z.ZodType<T>): T {
    try {
      return schema.parse(JSON.parse(text));
    } catch {
      throw this.service.malformed('gave an answer that is not in the format of docling-serve');
    }
  }
}

const unreadable = () => new DocumentError('damaged', 'The Docling service could not read the file.');
