import { Logger } from '@nestjs/common';
import { ClsServiceManager } from 'nestjs-cls';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ModelError } from '../../core/models/model.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { FileMissingError } from '../../foundation/storage/file-storage.js';
import { DocumentError } from '../documents/document-error.js';
import { IngestionService } from './ingestion.service.js';

const tenant = { id: 't', name: 'tenant', status: 'active', config: {} };
const call = { tenantId: 't', documentId: 'd' };
const claimed = {
  id: 'd',
  tenantId: 't',
  kbId: 'kb',
  title: 'A file',
  fileName: 'file.txt',
  mimeType: 'text/plain',
  attempts: 0,
  interruptions: 0,
  config: { chunk_size: 500 },
};
const chunks = ['one', 'two'].map((text, ordinal) => ({ ordinal, text, tokenCount: 3 }));

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
      claim: vi.fn(async () => ({ ...claimed }) as typeof claimed | null),
      heartbeat: vi.fn(async () => true),
      lockOwn: vi.fn(async () => true),
      finish: vi.fn(async () => true),
      fail: vi.fn(async () => true),
      retryLater: vi.fn(async () => true),
      release: vi.fn(async () => true),
    },
    knowledgeBases: { fixEmbeddingModel: vi.fn(async () => true) },
    chunks: {
      replaceChunks: vi.fn(async () => ({ reweighNeeded: false })),
      reweigh: vi.fn(async () => undefined),
    },
    storage: { read: vi.fn(() => outside(Buffer.from('one two'))) },
    loader: { loadAndSplit: vi.fn(() => outside({ mimeType: 'text/plain', chunks })) },
    model: { name: 'a model', embedDocuments: vi.fn((texts: string[]) => outside(texts.map(() => [1, 0]))) },
    queue: { add: vi.fn(async () => undefined) },
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
  const { directory, database, repository, knowledgeBases, storage, loader, model, queue } = parts;
  const models = { embedding: () => model };
  const credits = {
    spend: async (_: object, work: () => Promise<number>) => ({ result: await work(), credits: 0 }),
  };
  const usage = { meter: () => ({ end: parts.ended }), note: parts.noted };
  const dependencies = [
    context,
    directory,
    database,
    repository,
    knowledgeBases,
    parts.chunks,
    storage,
    loader,
    models,
    usage,
    credits,
    { publish: parts.publish },
    queue,
  ];
  service = new IngestionService(
    ...(dependencies as unknown as ConstructorParameters<typeof IngestionService>),
  );
  for (const method of ['log', 'warn', 'error'] as const)
    vi.spyOn(Logger.prototype, method).mockImplementation(() => undefined);
});
afterEach(() => vi.clearAllMocks());

const ingest = () => service.ingest(call, shutdown.signal);
const expectNothingWritten = () => {
  for (const name of ['finish', 'fail', 'retryLater', 'release'] as const)
    expect(parts.repository[name]).not.toHaveBeenCalled();
  expect(parts.chunks.replaceChunks).not.toHaveBeenCalled();
};

describe('an ingestion that goes well', () => {
  it('weighs a large knowledge base anew where the store asks for it, after the store', async () => {
    await ingest();
    expect(parts.chunks.reweigh).not.toHaveBeenCalled();
    parts.chunks.replaceChunks.mockResolvedValueOnce({ reweighNeeded: true });
    await ingest();
    expect(parts.chunks.reweigh).toHaveBeenCalledExactlyOnceWith(expect.anything(), 'kb');
  });

  it('stores chunks with their vectors and finishes, under one lease', async () => {
    await ingest();
    const [, id, owner, takeOver] = parts.repository.claim.mock.calls[0] as unknown[];
    expect([id, takeOver]).toEqual(['d', false]);
    expect(parts.loader.loadAndSplit).toHaveBeenCalledWith(
      Buffer.from('one two'),
      expect.objectContaining({ fileName: 'file.txt', chunkSize: 500, chunkOverlap: 100 }),
    );
    expect(parts.chunks.replaceChunks).toHaveBeenCalledWith(
      expect.anything(),
      { documentId: 'd', tenantId: 't', kbId: 'kb' },
      chunks.map(chunk => ({ ...chunk, embedding: [1, 0] })),
    );
    expect(parts.repository.finish).toHaveBeenCalledWith(expect.anything(), 'd', owner, {
      mimeType: 'text/plain',
      chunkCount: 2,
      tokenCount: 6,
    });
    expect(parts.repository.lockOwn).toHaveBeenCalledBefore(parts.chunks.replaceChunks);
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
    expect(parts.noted).toHaveBeenCalledExactlyOnceWith({ model: 'a model', embeddingTokens: 6 });
    expect(parts.ended).toHaveBeenCalledExactlyOnceWith('success');
  });

  it('takes a document over where the call says so', async () => {
    await service.ingest({ ...call, takeOver: true }, shutdown.signal);
    expect((parts.repository.claim.mock.calls[0] as unknown[])[3]).toBe(true);
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
    expect(parts.storage.read).not.toHaveBeenCalled();
  });

  it('where the lease was lost before the vectors', async () => {
    parts.repository.heartbeat.mockResolvedValue(false);
    await ingest();
    expectNothingWritten();
    expect(parts.model.embedDocuments).not.toHaveBeenCalled();
  });

  it('where the lease was lost at the last moment', async () => {
    parts.repository.lockOwn.mockResolvedValue(false);
    await ingest();
    expectNothingWritten();
  });
});

describe('an ingestion that fails', () => {
  it.each([
    [
      'the file cannot be read as what it is',
      () => parts.loader.loadAndSplit.mockRejectedValue(new DocumentError('damaged', 'It is damaged.')),
      'damaged',
    ],
    [
      'there is no text in it',
      () => parts.loader.loadAndSplit.mockResolvedValue({ mimeType: 'text/plain', chunks: [] }),
      'no_text',
    ],
    [
      'the original is missing',
      () => parts.storage.read.mockRejectedValue(new FileMissingError('gone')),
      'content_missing',
    ],
    [
      'the knowledge base has vectors of another model',
      () => parts.knowledgeBases.fixEmbeddingModel.mockResolvedValue(false),
      'embedding_model_changed',
    ],
    [
      'the model refuses the texts',
      () => parts.model.embedDocuments.mockRejectedValue(modelError(false)),
      'model_rejected',
    ],
    [
      'it has ended the process too often',
      () => parts.repository.claim.mockResolvedValue({ ...claimed, interruptions: 26 }),
      'damaged',
    ],
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
    expect(parts.queue.add).not.toHaveBeenCalled();
    expect(parts.ended).toHaveBeenCalledExactlyOnceWith('failure');
    const error = { code, message: expect.any(String) };
    const data = { document_id: 'd', kb_id: 'kb', title: 'A file', error };
    expect(parts.publish).toHaveBeenCalledExactlyOnceWith(expect.anything(), {
      type: 'document.failed',
      data,
    });
  });

  it.each([
    [0, 2],
    [1, 4],
    [2, 8],
  ])('for now is tried again, after attempt %d in %d seconds', async (attempts, delay) => {
    parts.repository.claim.mockResolvedValue({ ...claimed, attempts });
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
    expect(parts.queue.add).toHaveBeenCalledExactlyOnceWith(expect.any(String), call, {
      delay: delay * 1000,
    });
    expect(parts.repository.fail).not.toHaveBeenCalled();
    expect(parts.ended).not.toHaveBeenCalled();
    expect(parts.publish).not.toHaveBeenCalled();
  });

  it('for good after the fourth attempt', async () => {
    parts.repository.claim.mockResolvedValue({ ...claimed, attempts: 3 });
    parts.model.embedDocuments.mockRejectedValue(modelError(true));
    await ingest();
    expect(parts.repository.retryLater).not.toHaveBeenCalled();
    expect(parts.repository.fail).toHaveBeenCalledTimes(1);
  });

  it('calls nobody for a document that it has lost meanwhile', async () => {
    parts.model.embedDocuments.mockRejectedValue(modelError(true));
    parts.repository.retryLater.mockResolvedValue(false);
    await ingest();
    expect(parts.queue.add).not.toHaveBeenCalled();
  });

  it('says nothing of a fault of ours in the row, and all of it in the log', async () => {
    const fault = new Error('password of the database: secret');
    parts.chunks.replaceChunks.mockRejectedValue(fault);
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
