import { randomUUID } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { access } from 'node:fs/promises';
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FieldError, Problem } from './foundation/http/problem.js';
import type { LocalFile } from './ingest-files.js';
import { type Destination, noKnowledgeBase } from './ingest-here.js';
import { FileRefused, type IngestTarget, type IngestedDocument } from './ingest-run.js';

/** Of one request: a fault that passes is waited for, one that stays ends the run. */
const MOST_ATTEMPTS = 5;
/** Seconds that a server may ask to be waited for, and how often. */
const LONGEST_WAIT = 120;
const MOST_WAITS = 100;
const PAGE_SIZE = 100;
/** Documents of one look that are asked for one by one, because they are not among those that have changed last. */
const LOOKS_AT_SINGLE = 2;
/** Characters of a path that documents can be versions of. */
const LONGEST_SOURCE = 1000;

export interface HttpEndpoint {
  /** Without `/api/v1`. */
  url: string;
  token: string;
  signal: AbortSignal;
}

/** A document as the API writes it, as far as it is needed here. */
interface WireDocument {
  id: string;
  status: IngestedDocument['status'];
  source_id: string | null;
  content_sha256: string | null;
  error: { code: string; message: string } | null;
}

interface WirePage {
  items: WireDocument[];
  total: number;
}

interface Answer {
  status: number;
  /** JSON; null where it is none. */
  body: unknown;
}

/** A problem document, as far as it is needed here. */
interface WireProblem {
  code?: string;
  detail?: string;
  errors?: FieldError[];
  document_id?: string;
}

/** A body that can be sent again: a stream can be read once. */
type Body = () => { body: RequestInit['body']; headers: Record<string, string> };

/** A knowledge base of a running server, through its API. */
export class IngestOverHttp implements IngestTarget {
  /** Documents that were there when this began; null: too many to read them all. */
  private bySource: Map<string, IngestedDocument> | null = null;

  private constructor(
    private readonly endpoint: HttpEndpoint,
    private readonly destination: Destination,
  ) {}

  /** @throws Problem with a sentence where the server, the token, the tenant or the knowledge base is not what it should be */
  static async open(
    endpoint: HttpEndpoint,
    destination: Destination,
    { files }: { files: number },
  ): Promise<IngestOverHttp> {
    const target = new IngestOverHttp(endpoint, destination);
    // Whoever has mistyped the address need not wait for it.
    const found = await target.send('GET', target.path(''), undefined, 1);
    if (found.status === 404 && destination.createKb) {
      const made = await target.send('POST', target.tenantPath('/kbs'), jsonBody({ name: destination.kb }));
      if (made.status !== 201) throw target.faultOf(made);
    } else if (found.status !== 200) throw target.faultOf(found);
    await target.readAll(files);
    return target;
  }

  /** A page of documents costs one request, as asking for a single one does: all of them are read where that costs less. */
  private async readAll(files: number): Promise<void> {
    const bySource = new Map<string, IngestedDocument>();
    for (let page = 1, pages = 1; page <= pages; page++) {
      const { items, total } = await this.list({ page: String(page), sort: 'created_at' });
      pages = Math.ceil(total / PAGE_SIZE);
      if (pages > Math.max(files, 10)) return;
      for (const document of items) {
        if (document.source_id !== null) bySource.set(document.source_id, toIngested(document));
      }
    }
    this.bySource = bySource;
  }

  async find(sourceId: string): Promise<IngestedDocument | null> {
    if (this.bySource) return this.bySource.get(sourceId) ?? null;
    // A path that is too long makes no versions, and no document is found by it.
    if (sourceId.length > LONGEST_SOURCE) return null;
    const { items } = await this.list({ source_id: sourceId });
    return items[0] ? toIngested(items[0]) : null;
  }

  private async list(query: Record<string, string>): Promise<WirePage> {
    const parameters = new URLSearchParams({ page_size: String(PAGE_SIZE), ...query }).toString();
    const answer = await this.send('GET', this.path(`/documents?${parameters}`));
    if (answer.status !== 200) throw this.faultOf(answer);
    return answer.body as WirePage;
  }

  async add(file: LocalFile): Promise<IngestedDocument> {
    await access(file.path, constants.R_OK);
    const answer = await this.upload(file);
    const { status } = answer;
    const document = status === 202 ? firstOf(answer) : null;
    if (document) return document;
    const { code = `http_${status}`, detail, document_id: documentId = null } = problemOf(answer);
    // The rest of the files would meet the same; but not everybody who may add a document may change one.
    const forbidden = status === 403 && code !== 'quota_exceeded' && !detail?.includes('document:update');
    if (status === 401 || status === 404 || forbidden) throw this.faultOf(answer);
    throw new FileRefused(code, detail ?? `The server answered with the status ${status}.`, documentId);
  }

  /** Callers have a number of requests a minute: those that have changed last are read in one. */
  async look(ids: readonly string[]): Promise<IngestedDocument[]> {
    const { items } = await this.list({ sort: '-updated_at' });
    const wanted = new Set(ids);
    const found = items.filter(({ id }) => wanted.delete(id)).map(toIngested);
    for (const id of [...wanted].slice(0, LOOKS_AT_SINGLE)) {
      const answer = await this.send('GET', this.path(`/documents/${id}`));
      if (answer.status === 200) found.push(toIngested(answer.body as WireDocument));
      else if (answer.status === 404) found.push({ id, status: 'deleting', sha256: null, error: null });
      else throw this.faultOf(answer);
    }
    return found;
  }

  /** A server that refuses a file before it has read it may hang up: it is the file's fault where it answers otherwise. */
  private async upload(file: LocalFile): Promise<Answer> {
    const form = () => formOf(file, this.destination.metadata);
    try {
      return await this.send('POST', this.path('/documents'), form);
    } catch (error) {
      if (!(error instanceof Problem && error.code === 'unreachable')) throw error;
      await this.send('GET', this.path(''));
      throw new FileRefused(
        'upload_interrupted',
        'The connection broke while the file was sent, several times.',
      );
    }
  }

  private async send(method: string, path: string, bodyOf?: Body, attempts = MOST_ATTEMPTS): Promise<Answer> {
    const { url, token, signal } = this.endpoint;
    for (let attempt = 0, waits = 0; ;) {
      const { body = null, headers = {} } = bodyOf?.() ?? {};
      const outcome = await fetch(`${url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, ...headers },
        body,
        signal,
        // A redirect would send the token to whoever it names.
        redirect: 'manual',
        ...(body && { duplex: 'half' }),
      }).then(answerOf, (error: unknown) => error as Error);
      signal.throwIfAborted();
      if (!(outcome instanceof Error) && outcome.status !== 429 && outcome.status < 502) return outcome;
      const limited = !(outcome instanceof Error) && outcome.status === 429;
      // To be let in later is no failed attempt.
      if (limited ? ++waits > MOST_WAITS : ++attempt >= attempts) throw this.faultOf(outcome);
      const asked = outcome instanceof Error ? 0 : outcome.retryAfter;
      const seconds = Math.min(Math.max(2 ** attempt / 2, asked, limited ? 1 : 0), LONGEST_WAIT);
      await sleep(seconds * 1000, undefined, { signal });
    }
  }

  private path(rest: string): string {
    return this.tenantPath(`/kbs/${encodeURIComponent(this.destination.kb)}${rest}`);
  }

  private tenantPath(rest: string): string {
    return `/tenants/${encodeURIComponent(this.destination.tenant)}${rest}`;
  }

  /** What is wrong with the whole run, in a sentence. */
  private faultOf(outcome: Answer | Error): Problem {
    const { url } = this.endpoint;
    if (outcome instanceof Error) {
      const { cause } = outcome as { cause?: Error };
      return new Problem(503, 'unreachable', `${url} does not answer: ${cause?.message || outcome.message}`);
    }
    const { status } = outcome;
    const { code, detail = `It answered with the status ${status}.`, errors } = problemOf(outcome);
    const { tenant } = this.destination;
    if (code === undefined)
      return new Problem(502, 'unexpected_answer', `${url} does not answer as this API does (${status}).`);
    if (status === 401) return new Problem(401, code, `${url} does not accept the token: ${detail}`);
    if (code === 'not_found' && detail.includes('tenant'))
      return new Problem(404, code, `There is no tenant "${tenant}" at ${url}, or none for this token.`);
    if (code === 'not_found') return new Problem(404, code, noKnowledgeBase(this.destination));
    return new Problem(status, code, `${url} refuses: ${detail}`, errors && { errors });
  }
}

async function answerOf(response: Response): Promise<Answer & { retryAfter: number }> {
  const text = await response.text();
  const isJson = /\bjson\b/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    body: isJson ? (JSON.parse(text) as unknown) : null,
    retryAfter: Number(response.headers.get('retry-after')) || 0,
  };
}

const jsonBody =
  (value: unknown): Body =>
  () => ({ body: JSON.stringify(value), headers: { 'content-type': 'application/json' } });

/**
 * A form with one file, streamed from the disk (RFC 7578; names are quoted strings of RFC 2045).
 */
function formOf({ path, sourceId }: LocalFile, metadata: Record<string, unknown> | null): ReturnType<Body> {
  const boundary = `enclave-${randomUUID()}`;
  const field = (name: string, value: string) =>
    `--${boundary}\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const name = posix
    .basename(sourceId)
    .replace(/["\\]/g, '\\$&')
    .replace(/[\r\n]/g, ' ');
  const before = Buffer.from(
    field('source_id', sourceId) +
      (metadata ? field('metadata', JSON.stringify(metadata)) : '') +
      `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="${name}"\r\n` +
      'content-type: application/octet-stream\r\n\r\n',
  );
  const after = Buffer.from(`\r\n--${boundary}--\r\n`);
  async function* content() {
    yield before;
    yield* createReadStream(path);
    yield after;
  }
  return {
    body: Readable.toWeb(Readable.from(content(), { objectMode: false })) as RequestInit['body'],
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
  };
}

const problemOf = ({ body }: Answer): WireProblem => body ?? {};

function firstOf({ body }: Answer): IngestedDocument | null {
  const [document] = (body as Pick<WirePage, 'items'>).items;
  return document ? toIngested(document) : null;
}

const toIngested = ({ id, status, content_sha256: sha256, error }: WireDocument): IngestedDocument => ({
  id,
  status,
  sha256,
  error,
});
