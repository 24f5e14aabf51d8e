import { randomUUID } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { access } from 'node:fs/promises';
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import {
  type ApiAnswer,
  type ApiBody,
  ApiClient,
  type HttpEndpoint,
  jsonBody,
  problemOf,
} from './api-client.js';
import { Problem } from './foundation/http/problem.js';
import type { LocalFile } from './ingest-files.js';
import { type Destination, noKnowledgeBase } from './ingest-here.js';
import { FileRefused, type IngestTarget, type IngestedDocument } from './ingest-run.js';

const PAGE_SIZE = 100;
/** Documents of one look that are asked for one by one, because they are not among those that have changed last. */
const LOOKS_AT_SINGLE = 2;
/** Characters of a path that documents can be versions of. */
const LONGEST_SOURCE = 1000;

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

/** A knowledge base of a running server, through its API. */
export class IngestOverHttp implements IngestTarget {
  /** Documents that were there when this began; null: too many to read them all. */
  private bySource: Map<string, IngestedDocument> | null = null;

  private constructor(
    private readonly client: ApiClient,
    private readonly destination: Destination,
  ) {}

  /** @throws Problem with a sentence where the server, the token, the tenant or the knowledge base is not what it should be */
  static async open(
    endpoint: HttpEndpoint,
    destination: Destination,
    { files }: { files: number },
  ): Promise<IngestOverHttp> {
    const place = { tenant: destination.tenant, missing: noKnowledgeBase(destination) };
    const client = new ApiClient(endpoint, place);
    const target = new IngestOverHttp(client, destination);
    // Whoever has mistyped the address need not wait for it.
    const found = await client.send('GET', target.path(''), undefined, 1);
    if (found.status === 404 && destination.createKb) {
      const made = await client.send('POST', target.tenantPath('/kbs'), jsonBody({ name: destination.kb }));
      if (made.status !== 201) throw client.faultOf(made);
    } else if (found.status !== 200) throw client.faultOf(found);
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
    const answer = await this.client.send('GET', this.path(`/documents?${parameters}`));
    if (answer.status !== 200) throw this.client.faultOf(answer);
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
    if (status === 401 || status === 404 || forbidden) throw this.client.faultOf(answer);
    throw new FileRefused(code, detail ?? `The server answered with the status ${status}.`, documentId);
  }

  /** Callers have a number of requests a minute: those that have changed last are read in one. */
  async look(ids: readonly string[]): Promise<IngestedDocument[]> {
    const { items } = await this.list({ sort: '-updated_at' });
    const wanted = new Set(ids);
    const found = items.filter(({ id }) => wanted.delete(id)).map(toIngested);
    for (const id of [...wanted].slice(0, LOOKS_AT_SINGLE)) {
      const answer = await this.client.send('GET', this.path(`/documents/${id}`));
      if (answer.status === 200) found.push(toIngested(answer.body as WireDocument));
      else if (answer.status === 404) found.push({ id, status: 'deleting', sha256: null, error: null });
      else throw this.client.faultOf(answer);
    }
    return found;
  }

  /** A server that refuses a file before it has read it may hang up: it is the file's fault where it answers otherwise. */
  private async upload(file: LocalFile): Promise<ApiAnswer> {
    const form = () => formOf(file, this.destination.metadata);
    try {
      return await this.client.send('POST', this.path('/documents'), form);
    } catch (error) {
      if (!(error instanceof Problem && error.code === 'unreachable')) throw error;
      await this.client.send('GET', this.path(''));
      throw new FileRefused(
        'upload_interrupted',
        'The connection broke while the file was sent, several times.',
      );
    }
  }

  private path(rest: string): string {
    return this.tenantPath(`/kbs/${encodeURIComponent(this.destination.kb)}${rest}`);
  }

  private tenantPath(rest: string): string {
    return `/tenants/${encodeURIComponent(this.destination.tenant)}${rest}`;
  }
}

/**
 * A form with one file, streamed from the disk (RFC 7578; names are quoted strings of RFC 2045).
 */
function formOf(
  { path, sourceId }: LocalFile,
  metadata: Record<string, unknown> | null,
): ReturnType<ApiBody> {
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

function firstOf({ body }: ApiAnswer): IngestedDocument | null {
  const [document] = (body as Pick<WirePage, 'items'>).items;
  return document ? toIngested(document) : null;
}

const toIngested = ({ id, status, content_sha256: sha256, error }: WireDocument): IngestedDocument => ({
  id,
  status,
  sha256,
  error,
});
