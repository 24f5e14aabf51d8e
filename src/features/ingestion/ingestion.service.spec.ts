import { Logger } from '@nestjs/common';
import { ClsServiceManager } from 'nestjs-cls';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ModelError } from '../../core/models/model.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileDamagedError, FileMissingError } from '../../foundation/storage/file-storage.js';
import type { Checkpoint } from '../documents/staging.repository.js';
import type { StoredGraph } from '../graph/graph-store.repository.js';
import { DocumentStaging } from './document-staging.service.js';
import { IngestionService } from './ingestion.service.js';
import type { ClaimedDocument } from './ingestion.repository.js';
import { WebFault } from './web-fault.js';

const tenant = { id: 't', name: 'tenant', status: 'active', config: {} };
const picked = { tenantId: 't', documentId: 'd' };
const claimed: ClaimedDocument = {
  id: 'd',
  tenantId: 't',
  kbId: 'kb',
  version: 2,
  source: 'upload',
  sourceUrl: null,
  original: { storageKey: 'key', contentSha256: 'abc', mimeType: 'text/plain', fileName: 'file.txt' },
  createdBy: null,
  tokenId: null,
  attempts: 0,
  interruptions: 0,
  config: { chunk_size: 500 },
  language: 'english',
  embeddingModel: null,
  reindexingTo: null,
};
const chunks = ['one', 'two'].map((text, ordinal) => ({ ordinal, text, tokenCount: 3 }));
const read = { mimeType: 'text/plain', pageCount: 1, title: null, canonicalUrl: null, warnings: [] };

const context = new TenantContext(ClsServiceManager.getClsService());
let inTransaction: boolean;
const outside = <T>(result: T) => {
  expect(inTransaction, 'a transaction is open while this waits').toBe(false);
  return Promise.resolve(result);
};

function createParts() {
  return {
    directory: { find: vi.fn(async () => tenant as typeof tenant | null) },
    database: {
      async run<T>(work: (tx: object) => Promise<T>): Promise<T> {
        expect(context.tenant).toBe(tenant);
        inTransaction = true;
        return work({}).finally(() => (inTransaction = false));
      },
    },
    repository: {
      claim: vi.fn(async () => ({ ...claimed }) as ClaimedDocument | null),
      heartbeat: vi.fn(async () => true),
      lockOwn: vi.fn(
        async () => ({ hasChunks: false, reindexingTo: null }) as { reindexingTo: string | null } | null,
      ),
      finish: vi.fn(async () => true),
      park: vi.fn(async () => true),
      fail: vi.fn(async () => true),
      retryLater: vi.fn(async () => true),
      release: vi.fn(async () => true),
      titleToTell: vi.fn(async () => 'A file'),
    },
    staging: {
      find: vi.fn(async () => null as Checkpoint | null),
      begin: vi.fn(async () => undefined),
      addChunks: vi.fn(async () => undefined),
      endSplit: vi.fn(async () => undefined),
      embedded: vi.fn(async () => ({ chunks: 0, tokens: 0 })),
      nextUnembedded: vi.fn(async () => chunks),
      addVectors: vi.fn(async () => undefined),
      discard: vi.fn(async () => undefined),
    },
    reading: {
      read: vi.fn(async function* () {
        yield await outside(chunks);
        return read;
      }),
      fetch: vi.fn(),
    },
    documentVersions: { fallBack: vi.fn(async () => null as string[] | null) },
    versions: { deleteOthers: vi.fn(async () => ['an old key']) },
    knowledgeBases: { fixEmbeddingModel: vi.fn(async () => true) },
    reindexing: { swapIfComplete: vi.fn(async () => undefined), reweigh: vi.fn(async () => undefined) },
    chunks: {
      swapIn: vi.fn(async () => ({ reweighNeeded: false })),
    },
    extraction: {
      plan: vi.fn(async () => null),
      extract: vi.fn(async () => undefined),
      embedNames: vi.fn(async () => undefined),
    },
    graph: { swapIn: vi.fn(async () => null as StoredGraph | null) },
    tellReached: vi.fn(async () => undefined),
    storage: { forget: vi.fn(async () => outside(undefined)) },
    model: { name: 'a model', embedDocuments: vi.fn((texts: string[]) => outside(texts.map(() => [1, 0]))) },
    calls: { now: vi.fn(), later: vi.fn(), afterCommit: vi.fn() },
    estimate: vi.fn(),
    paid: vi.fn(),
    ended: vi.fn(),
    publish: vi.fn(),
    noted: vi.fn(),
  };
}

let parts: ReturnType<typeof createParts>;
let service: IngestionService;
let shutdown: AbortController;
const logged = vi.spyOn(Logger.prototype, 'error');

beforeEach(() => {
  inTransaction = false;
  parts = createParts();
  shutdown = new AbortController();
  const models = {
    embedding: async () => parts.model,
    embeddingOf: async (name: string) => (name === parts.model.name ? parts.model : null),
  };
  const credits = {
    async spend(estimate: { lines: unknown[] }, work: (meter: object) => Promise<unknown>) {
      parts.estimate(estimate.lines);
      return { result: await work({ used: parts.paid }), credits: 0 };
    },
  };
  const dependencies = [
    context,
    parts.directory,
    parts.database,
    parts.repository,
    parts.reading,
    new DocumentStaging(parts.database as never, parts.staging as never),
    parts.extraction,
    parts.staging,
    parts.chunks,
    parts.graph,
    { notePage: vi.fn(), requeue: vi.fn() },
    parts.versions,
    parts.knowledgeBases,
    parts.reindexing,
    parts.storage,
    models,
    { meter: () => ({ end: parts.ended }), note: parts.noted },
    credits,
    { tellReached: parts.tellReached },
    { publish: parts.publish },
    parts.calls,
    parts.documentVersions,
  ];
  service = new IngestionService(
    ...(dependencies as unknown as ConstructorParameters<typeof IngestionService>),
  );
  for (const method of ['log', 'warn', 'error'] as const)
    vi.spyOn(Logger.prototype, method).mockImplementation(() => undefined);
});
afterEach(() => vi.clearAllMocks());
afterAll(() => vi.restoreAllMocks());

const ingest = () => service.ingest(picked, shutdown.signal);
const claim = (changes: Partial<ClaimedDocument>) =>
  parts.repository.claim.mockResolvedValue({ ...claimed, ...changes });
const reads = (error: Error) =>
  parts.reading.read.mockImplementation(async function* () {
    yield [];
    throw error;
  });
const expectNothingWritten = () => {
  for (const name of ['finish', 'park', 'fail', 'retryLater', 'release'] as const)
    expect(parts.repository[name]).not.toHaveBeenCalled();
  expect(parts.chunks.swapIn).not.toHaveBeenCalled();
};
/** A checkpoint of the attempt that the last ingestion was. */
const checkpointOfBefore = (): Checkpoint => {
  const [, , header] = parts.staging.begin.mock.calls[0] as unknown as [unknown, unknown, Checkpoint];
  return { ...read, ...header, chunkCount: 2, tokenCount: 6, split: true };
};

describe('an ingestion that goes well', () => {
  it('swaps in what it has staged and finishes, under one lease', async () => {
    await ingest();
    const [, id, owner] = parts.repository.claim.mock.calls[0] as unknown[];
    expect(id).toBe('d');
    expect(parts.reading.read).toHaveBeenCalledWith(
      claimed.original,
      expect.objectContaining({
        split: { chunkSize: 500, chunkOverlap: 100, chunkUnit: 'characters' },
        readable: false,
      }),
    );
    const of = { documentId: 'd', tenantId: 't', kbId: 'kb' };
    expect(parts.staging.addChunks).toHaveBeenCalledExactlyOnceWith(expect.anything(), of, chunks);
    const vectors = [
      [1, 0],
      [1, 0],
    ];
    expect(parts.staging.addVectors).toHaveBeenCalledExactlyOnceWith(expect.anything(), of, [0, 1], vectors);
    expect(parts.chunks.swapIn).toHaveBeenCalledExactlyOnceWith(
      expect.anything(),
      of,
      2,
      expect.objectContaining({ hasChunks: false }),
    );
    const result = expect.objectContaining({ mimeType: 'text/plain', chunkCount: 2, tokenCount: 6 });
    expect(parts.repository.finish).toHaveBeenCalledWith(expect.anything(), 'd', owner, result, null);
    expect(parts.repository.lockOwn).toHaveBeenCalledBefore(parts.chunks.swapIn);
    expect(parts.staging.discard).toHaveBeenCalledAfter(parts.chunks.swapIn);
  });

  it('stages a small document in one transaction', async () => {
    await ingest();
    // Staged, embedded: each begins with a heartbeat.
    expect(parts.repository.heartbeat).toHaveBeenCalledTimes(2);
  });

  it('deletes the original of the version before, after the store', async () => {
    await ingest();
    expect(parts.versions.deleteOthers).toHaveBeenCalledExactlyOnceWith(expect.anything(), 'd', [2]);
    expect(parts.storage.forget).toHaveBeenCalledExactlyOnceWith(['an old key']);
  });

  it('weighs a large knowledge base anew where the store asks for it, after the store', async () => {
    await ingest();
    expect(parts.reindexing.reweigh).not.toHaveBeenCalled();
    parts.chunks.swapIn.mockResolvedValueOnce({ reweighNeeded: true });
    await ingest();
    expect(parts.reindexing.reweigh).toHaveBeenCalledExactlyOnceWith('kb');
  });

  it('is told, in the transaction that stores it', async () => {
    await ingest();
    expect(parts.publish).toHaveBeenCalledExactlyOnceWith(expect.anything(), {
      type: 'document.ready',
      data: { document_id: 'd', kb_id: 'kb', title: 'A file', chunk_count: 2, token_count: 6 },
    });
  });

  it('counts as used what it has embedded', async () => {
    await ingest();
    expect(parts.noted.mock.calls).toEqual([[{ model: 'a model' }], [{ embeddingTokens: 6 }]]);
    expect(parts.ended).toHaveBeenCalledExactlyOnceWith('success');
  });

  it('waits for the others where the knowledge base gets another model', async () => {
    claim({ embeddingModel: 'another model', reindexingTo: 'a model' });
    parts.repository.lockOwn.mockResolvedValue({ reindexingTo: 'a model' });
    await ingest();
    expect(parts.repository.park).toHaveBeenCalledTimes(1);
    expect(parts.chunks.swapIn).not.toHaveBeenCalled();
    expect(parts.publish).not.toHaveBeenCalled();
    expect(parts.reindexing.swapIfComplete).toHaveBeenCalledExactlyOnceWith('kb', shutdown.signal);
  });
});

describe('an ingestion that goes on where another attempt ended', () => {
  beforeEach(async () => {
    await ingest();
    parts.staging.find.mockResolvedValue(checkpointOfBefore());
    parts.staging.embedded.mockResolvedValue({ chunks: 1, tokens: 3 });
    parts.staging.nextUnembedded.mockResolvedValue(chunks.slice(1));
    vi.clearAllMocks();
  });

  it('neither reads nor embeds again what is staged, and pays for the rest', async () => {
    await ingest();
    expect(parts.reading.read).not.toHaveBeenCalled();
    expect(parts.model.embedDocuments).toHaveBeenCalledExactlyOnceWith(['two'], expect.anything());
    expect(parts.chunks.swapIn).toHaveBeenCalledTimes(1);
    expect(parts.estimate).toHaveBeenCalledExactlyOnceWith([
      { operation: 'page_parsed', quantity: 1 },
      { operation: 'embedding_tokens', model: 'a model', quantity: 3 },
    ]);
  });

  it.each<[string, Partial<ClaimedDocument>]>([
    ['other content', { original: { ...claimed.original!, contentSha256: 'def' } }],
    ['other settings', { config: { chunk_size: 600 } }],
  ])('begins anew with %s', async (_, changes) => {
    claim(changes);
    await ingest();
    expect(parts.reading.read).toHaveBeenCalledTimes(1);
    expect(parts.staging.begin).toHaveBeenCalledTimes(1);
    expect(parts.staging.embedded).not.toHaveBeenCalled();
  });
});

describe('nothing is written', () => {
  it('where the tenant has gone', async () => {
    parts.directory.find.mockResolvedValue(null);
    await ingest();
    expect(parts.repository.claim).not.toHaveBeenCalled();
  });

  it('where somebody else has the document', async () => {
    parts.repository.claim.mockResolvedValue(null);
    await ingest();
    expectNothingWritten();
    expect(parts.reading.read).not.toHaveBeenCalled();
  });

  it('where the lease was lost before the vectors', async () => {
    parts.repository.heartbeat.mockResolvedValue(false);
    await ingest();
    expectNothingWritten();
    expect(parts.model.embedDocuments).not.toHaveBeenCalled();
  });

  it('where the lease was lost at the last moment', async () => {
    parts.repository.lockOwn.mockResolvedValue(null);
    await ingest();
    expectNothingWritten();
    // Whoever has it by now finds it staged.
    expect(parts.paid).toHaveBeenCalledTimes(1);
  });
});

describe('an ingestion that fails', () => {
  it.each<[string, () => unknown, string]>([
    [
      'the file cannot be read as what it is',
      () => reads(new DocumentError('damaged', 'It is damaged.')),
      'damaged',
    ],
    [
      'there is no text in it',
      () =>
        parts.reading.read.mockImplementation(async function* () {
          yield [];
          return read;
        }),
      'no_text',
    ],
    ['the original is missing', () => reads(new FileMissingError('gone')), 'content_missing'],
    ['the original has changed', () => reads(new FileDamagedError('changed')), 'content_damaged'],
    [
      'the page may not be fetched',
      () => {
        claim({ original: null, source: 'url', sourceUrl: 'https://example.com/' });
        parts.reading.fetch.mockRejectedValue(new WebFault('robots_disallowed', 'Not by robots.'));
      },
      'robots_disallowed',
    ],
    [
      'the knowledge base has vectors of another model',
      () => claim({ embeddingModel: 'another model' }),
      'embedding_model_changed',
    ],
    [
      'the knowledge base has got vectors of another model meanwhile',
      () => parts.knowledgeBases.fixEmbeddingModel.mockResolvedValue(false),
      'embedding_model_changed',
    ],
    [
      'the model refuses the texts',
      () => parts.model.embedDocuments.mockRejectedValue(modelError(false)),
      'model_rejected',
    ],
    ['it has ended the process too often', () => claim({ interruptions: 26 }), 'damaged'],
  ])('for good where %s', async (_, arrange, code) => {
    arrange();
    await ingest();
    expect(parts.repository.fail).toHaveBeenCalledExactlyOnceWith(
      expect.anything(),
      'd',
      expect.any(String),
      code,
      expect.any(String),
    );
    expect(parts.repository.finish).not.toHaveBeenCalled();
    expect(parts.calls.later).not.toHaveBeenCalled();
    expect(parts.ended).toHaveBeenCalledExactlyOnceWith('failure');
    // Nothing is kept, and nothing paid for.
    expect(parts.staging.discard).toHaveBeenLastCalledWith(expect.anything(), 'd');
    expect(parts.paid).not.toHaveBeenCalled();
    const error = { code, message: expect.any(String) };
    const data = { document_id: 'd', kb_id: 'kb', title: 'A file', error };
    expect(parts.publish).toHaveBeenCalledExactlyOnceWith(expect.anything(), {
      type: 'document.failed',
      data,
    });
  });

  it('keeps what is paid for where there are no credits for the rest', async () => {
    parts.estimate.mockImplementation(() => {
      throw new Problem(402, 'insufficient_credits', 'There are too few.');
    });
    await ingest();
    expect(parts.repository.fail).toHaveBeenCalledTimes(1);
    expect(parts.staging.discard).not.toHaveBeenCalled();
  });

  it.each([
    [0, 2],
    [1, 4],
    [2, 8],
  ])('for now is tried again, after attempt %d in %d seconds', async (attempts, delay) => {
    claim({ attempts });
    parts.model.embedDocuments.mockRejectedValue(modelError(true));
    await ingest();
    const retry = [
      expect.anything(),
      'd',
      expect.any(String),
      'model_unavailable',
      expect.any(String),
      delay,
    ];
    expect(parts.repository.retryLater).toHaveBeenCalledExactlyOnceWith(...retry);
    expect(parts.calls.later).toHaveBeenCalledExactlyOnceWith(delay * 1000);
    expect(parts.repository.fail).not.toHaveBeenCalled();
    expect(parts.staging.discard).not.toHaveBeenCalled();
    expect(parts.ended).not.toHaveBeenCalled();
    expect(parts.publish).not.toHaveBeenCalled();
  });

  it('pays for what it has embedded where another attempt goes on with it', async () => {
    parts.chunks.swapIn.mockRejectedValue(new Error('the database is away'));
    await ingest();
    expect(parts.paid).toHaveBeenCalledExactlyOnceWith({
      operation: 'embedding_tokens',
      model: 'a model',
      quantity: 6,
    });
    expect(parts.repository.retryLater).toHaveBeenCalledTimes(1);
  });

  it('waits for as long as a server of the web wants to be left alone', async () => {
    claim({ original: null, source: 'url', sourceUrl: 'https://example.com/' });
    const fault = new WebFault('fetch_failed', 'Too many.', { passing: true, retryAfter: 90 });
    parts.reading.fetch.mockRejectedValue(fault);
    await ingest();
    expect(parts.calls.later).toHaveBeenCalledExactlyOnceWith(90_000);
  });

  it('is tried again where another process has a model already that ours has not', async () => {
    claim({ embeddingModel: 'a model', reindexingTo: 'another model' });
    await ingest();
    expect(parts.repository.release).toHaveBeenCalledExactlyOnceWith(
      expect.anything(),
      'd',
      expect.any(String),
      10,
    );
    expect(parts.calls.later).toHaveBeenCalledExactlyOnceWith(10_000);
    expect(parts.repository.retryLater).not.toHaveBeenCalled();
    expect(parts.model.embedDocuments).not.toHaveBeenCalled();
  });

  it('for good after the tenth attempt, and keeps what is staged', async () => {
    claim({ attempts: 9 });
    parts.model.embedDocuments.mockRejectedValue(modelError(true));
    await ingest();
    expect(parts.repository.retryLater).not.toHaveBeenCalled();
    expect(parts.repository.fail).toHaveBeenCalledTimes(1);
    expect(parts.staging.discard).not.toHaveBeenCalled();
  });

  it('calls nobody for a document that it has lost meanwhile', async () => {
    parts.model.embedDocuments.mockRejectedValue(modelError(true));
    parts.repository.retryLater.mockResolvedValue(false);
    await ingest();
    expect(parts.calls.later).not.toHaveBeenCalled();
  });

  it('says nothing of a fault of ours in the row, and all of it in the log', async () => {
    const fault = new Error('password of the database: secret');
    parts.chunks.swapIn.mockRejectedValue(fault);
    await ingest();
    const [, , , code, message] = parts.repository.retryLater.mock.calls[0] as unknown[];
    expect(code).toBe('internal_error');
    expect(message).not.toContain('secret');
    expect(logged).toHaveBeenCalledWith(fault);
  });
});

it('gives the document back unharmed where the process shuts down', async () => {
  parts.model.embedDocuments.mockImplementation(() => {
    shutdown.abort(new Error('shutting down'));
    return Promise.reject(new Error('aborted'));
  });
  await ingest();
  expect(parts.repository.release).toHaveBeenCalledExactlyOnceWith(
    expect.anything(),
    'd',
    expect.any(String),
  );
  expect(parts.calls.now).toHaveBeenCalledTimes(1);
  expect(parts.repository.fail).not.toHaveBeenCalled();
  expect(parts.repository.retryLater).not.toHaveBeenCalled();
});

function modelError(retryable: boolean): ModelError {
  return new ModelError(
    retryable ? 'model_unavailable' : 'model_rejected',
    'The model did not answer.',
    retryable,
  );
}
