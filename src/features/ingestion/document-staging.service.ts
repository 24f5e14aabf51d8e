import { Injectable } from '@nestjs/common';
import type { EmbeddingModel } from '../../core/models/model.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Chunk } from '../../foundation/extraction/chunk-splitter.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import {
  type Checkpoint,
  type ChunkOwner,
  StagingRepository,
  type UnembeddedChunk,
} from '../documents/staging.repository.js';
import type { DocumentLease } from './document-lease.js';
import type { ReadResult } from './document-reading.service.js';
import type { ClaimedDocument } from './ingestion.repository.js';

/** Chunks that are staged with one transaction. */
const CHUNKS_AT_ONCE = 200;
/** Chunks whose vectors are staged with one transaction: what a process that dies has asked for in vain, for each lane. */
const VECTORS_AT_ONCE = 64;
/** As many batches of one document are embedded at a time: while one is stored the model works on another. */
const LANES = 2;
/** Share of the progress bar that lies before the first embedding. */
const LOADED = 0.1;

/**
 * The steps of an ingestion before the last: each stages what it has made, batch by batch, so that neither the text nor the
 * vectors of a document are in memory as a whole, and nothing of it is made twice.
 */
@Injectable()
export class DocumentStaging {
  constructor(
    private readonly database: TenantDatabase,
    private readonly repository: StagingRepository,
  ) {}

  /**
   * Stages all chunks of a document; what was staged of it before is thrown away. Of a small document it takes a single
   * transaction.
   *
   * @throws DocumentError `no_text`, and what the reading throws; LeaseLostError
   */
  async split(
    document: ClaimedDocument,
    lease: DocumentLease,
    header: Pick<Checkpoint, 'version' | 'fingerprint' | 'embeddingModel'>,
    reading: AsyncGenerator<Chunk[], ReadResult>,
  ): Promise<Checkpoint> {
    const owner = ownerOf(document);
    let waiting: Chunk[] = [];
    let chunkCount = 0;
    let tokenCount = 0;
    const stage = async (result?: Checkpoint) => {
      const chunks = waiting;
      const first = chunks[0]?.ordinal === 0;
      waiting = [];
      await lease.within(async tx => {
        if (first) await this.repository.begin(tx, owner, header);
        await this.repository.addChunks(tx, owner, chunks);
        if (result) await this.repository.endSplit(tx, document.id, result);
      });
    };
    try {
      let step = await reading.next();
      for (; !step.done; step = await reading.next()) {
        lease.note('split', 0);
        if (waiting.length >= CHUNKS_AT_ONCE) await stage();
        waiting.push(...step.value);
        chunkCount += step.value.length;
        for (const chunk of step.value) tokenCount += chunk.tokenCount;
      }
      if (chunkCount === 0) throw new DocumentError('no_text', 'There is no text in this document.');
      const checkpoint: Checkpoint = { ...header, ...step.value, chunkCount, tokenCount, split: true };
      lease.note('embed', LOADED);
      await stage(checkpoint);
      return checkpoint;
    } finally {
      // Ends the reading, where it has not come to its end.
      await reading.return(undefined as never);
    }
  }

  /** How many chunks attempts before this one have embedded, and their tokens. */
  embedded(document: ClaimedDocument): Promise<{ chunks: number; tokens: number }> {
    return this.database.run(tx => this.repository.embedded(tx, document.id));
  }

  /**
   * Stages the vectors of all chunks that have none.
   *
   * @param before how many have one already
   * @param until share of the progress bar when the last one has
   * @param onStaged is told the tokens of each batch once it is staged
   * @throws ModelError, LeaseLostError
   */
  async embed(
    document: ClaimedDocument,
    model: EmbeddingModel,
    { chunkCount }: Checkpoint,
    before: number,
    until: number,
    lease: DocumentLease,
    onStaged: (tokens: number) => void,
  ): Promise<void> {
    const owner = ownerOf(document);
    const batches = this.unembedded(document.id, lease);
    const progress = new Progress(lease, chunkCount, before, until);
    // The first lane that fails ends the batches for the others, too: an iterator that is left early is closed.
    const lane = async (): Promise<void> => {
      for await (const batch of batches) {
        await this.embedBatch(owner, model, batch, lease, progress);
        onStaged(batch.reduce((sum, chunk) => sum + chunk.tokenCount, 0));
      }
    };
    const lanes = Array.from({ length: LANES }, lane);
    // What the other lanes have asked for is staged before anybody says how the attempt ended.
    const outcomes = await Promise.allSettled(lanes);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    lease.note('store', until);
  }

  private async embedBatch(
    owner: ChunkOwner,
    model: EmbeddingModel,
    batch: UnembeddedChunk[],
    lease: DocumentLease,
    progress: Progress,
  ): Promise<void> {
    const part = progress.part();
    const vectors = await model.embedDocuments(
      batch.map(chunk => chunk.text),
      { signal: lease.signal, onProgress: part },
    );
    await lease.within(tx =>
      this.repository.addVectors(
        tx,
        owner,
        batch.map(chunk => chunk.ordinal),
        vectors,
      ),
    );
  }

  private async *unembedded(documentId: string, lease: DocumentLease): AsyncGenerator<UnembeddedChunk[]> {
    for (let after = -1; ;) {
      lease.signal.throwIfAborted();
      const batch = await this.database.run(tx =>
        this.repository.nextUnembedded(tx, documentId, after, VECTORS_AT_ONCE),
      );
      if (batch.length > 0) yield batch;
      if (batch.length < VECTORS_AT_ONCE) return;
      after = (batch.at(-1) as UnembeddedChunk).ordinal;
    }
  }
}

/** How many chunks have a vector, staged or about to be, as a share of the document. */
class Progress {
  constructor(
    private readonly lease: DocumentLease,
    private readonly total: number,
    private done: number,
    private readonly until: number,
  ) {}

  /** @returns to be told how many of a batch are done */
  part(): (done: number) => void {
    let before = 0;
    return done => {
      this.done += done - before;
      before = done;
      this.lease.note('embed', LOADED + (this.until - LOADED) * (this.done / this.total));
    };
  }
}

const ownerOf = ({ id, tenantId, kbId }: ClaimedDocument): ChunkOwner => ({ documentId: id, tenantId, kbId });
