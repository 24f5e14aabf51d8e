import { Injectable } from '@nestjs/common';
import { setImmediate } from 'node:timers/promises';
import { CreditsService } from '../../core/credits/credits.service.js';
import type { ChatModel, EmbeddingModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import type { EffectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import type { ChunkOwner, Checkpoint } from '../documents/staging.repository.js';
import {
  GraphStagingRepository,
  type NameWithoutVector,
  type StagedExtraction,
  type UnextractedChunk,
} from '../graph/graph-staging.repository.js';
import {
  ModelExtractor,
  PROMPT_VERSION,
  isRefusal,
  isRefusalOfText,
} from '../graph/model-extractor.service.js';
import { NAMES_VERSION, extractNames } from '../graph/name-extractor.js';
import type { DocumentLease } from './document-lease.js';
import type { ClaimedDocument } from './ingestion.repository.js';

/** Chunks that are read from the database at a time; of names, also those that are extracted and staged together. */
const CHUNKS_AT_ONCE = 64;
/** Chunks of one document that a model is asked about at a time: what a process that dies has asked for in vain. */
const LANES = 4;
/** Chunks whose names are extracted before somebody else has a turn. */
const CHUNKS_A_TURN = 4;
/** Chunks that a model refuses before it has answered any, until it is thought to answer none. */
const MOST_REFUSED = 16;
/** Names that are embedded and staged with one transaction. */
const NAMES_AT_ONCE = 256;

/** How the graph of a document is made. */
export interface GraphPlan {
  /** Null: by names. */
  chat: ChatModel | null;
  language: string;
  /** Everything that the extraction depends on but the chunks. */
  fingerprint: string;
}

/** The step of an ingestion that finds out what chunks name: chunk by chunk, each staged as soon as it is there. */
@Injectable()
export class DocumentExtraction {
  constructor(
    private readonly database: TenantDatabase,
    private readonly repository: GraphStagingRepository,
    private readonly extractor: ModelExtractor,
    private readonly models: ModelsService,
    private readonly quotas: QuotasService,
    private readonly credits: CreditsService,
    private readonly usage: UsageService,
  ) {}

  /**
   * Where a model is wanted and the tenant has none, names make the graph: documents are to be found whatever becomes of it,
   * and the statistics of the knowledge base say what it was made by.
   *
   * @returns null where no graph is wanted
   * @throws Problem where the settings name a model that is not there
   */
  async plan(config: EffectiveConfig, language: string): Promise<GraphPlan | null> {
    if (config.graph === 'off') return null;
    const chat =
      config.graph === 'model' ? await this.models.chat(config.graph_model ?? config.llm_model) : null;
    const way = chat ? ['model', PROMPT_VERSION, chat.name] : ['names', NAMES_VERSION];
    return { chat, language, fingerprint: JSON.stringify([...way, language]) };
  }

  /**
   * Stages what is extracted from all chunks of which nothing was yet.
   *
   * @param from share of the progress bar before the first chunk. @param until the same after the last
   * @throws ModelError, Problem 402, 429, LeaseLostError
   */
  async extract(
    document: ClaimedDocument,
    plan: GraphPlan,
    { chunkCount }: Checkpoint,
    from: number,
    until: number,
    lease: DocumentLease,
  ): Promise<void> {
    const before = await this.database.run(tx => this.repository.extracted(tx, document.id));
    let done = before.chunks;
    const staged = async (extractions: StagedExtraction[]) => {
      await lease.within(tx => this.repository.addExtractions(tx, ownerOf(document), extractions));
      done += extractions.length;
      lease.note('extract', from + (until - from) * (done / chunkCount));
    };
    lease.note('extract', from + (until - from) * (done / chunkCount));
    const batches = this.unextracted(document.id, lease);
    const { chat, language } = plan;
    if (chat) await this.askModel(document, { chat, language }, before.byModel, batches, staged, lease);
    else for await (const batch of batches) await staged(await namesOf(batch, 'names', language));
    lease.note('store', until);
  }

  /**
   * Stages vectors for the names of entities that have none.
   *
   * @throws ModelError, Problem 402, LeaseLostError
   */
  async embedNames(
    document: ClaimedDocument,
    embedding: EmbeddingModel,
    lease: DocumentLease,
  ): Promise<void> {
    const owner = ownerOf(document);
    const most = await this.mostEntities();
    const anew = document.reindexingTo !== null;
    for (let after = ''; ;) {
      lease.signal.throwIfAborted();
      const names = await this.database.run(tx =>
        this.repository.nextWithoutVector(tx, owner, { anew, most, after, limit: NAMES_AT_ONCE }),
      );
      if (names.length > 0) await this.embedBatch(document, embedding, names, lease);
      if (names.length < NAMES_AT_ONCE) return;
      after = (names.at(-1) as NameWithoutVector).key;
    }
  }

  private async embedBatch(
    document: ClaimedDocument,
    embedding: EmbeddingModel,
    names: readonly NameWithoutVector[],
    lease: DocumentLease,
  ): Promise<void> {
    const tokens = names.reduce((sum, { name }) => sum + estimateTokens(name), 0);
    const line = { operation: 'embedding_tokens' as const, model: embedding.name, quantity: tokens };
    await this.credits.spend({ operation: 'ingestion', lines: [line], ...payerOf(document) }, async () => {
      const vectors = await embedding.embedDocuments(
        names.map(({ name }) => name),
        { signal: lease.signal },
      );
      const keys = names.map(({ key }) => key);
      await lease.within(tx => this.repository.addVectors(tx, document.id, keys, vectors));
      this.usage.note({ embeddingTokens: tokens });
    });
  }

  /** Of the knowledge base, where the tenant is held to it. */
  private async mostEntities(): Promise<number | null> {
    return (await this.credits.enforced()) ? (await this.quotas.limits()).max_entities_per_kb : null;
  }

  /** @param before answers that are staged already */
  private async askModel(
    document: ClaimedDocument,
    { chat, language }: { chat: ChatModel; language: string },
    before: number,
    batches: AsyncGenerator<UnextractedChunk[]>,
    staged: (extractions: StagedExtraction[]) => Promise<void>,
    lease: DocumentLease,
  ): Promise<void> {
    const chunks = oneByOne(batches);
    let answers = before;
    // To be told apart when the other lanes are done: refusals come sooner than answers.
    const refused: UnextractedChunk[] = [];
    let refusal: unknown;
    const ask = async (chunk: UnextractedChunk): Promise<StagedExtraction | null> => {
      try {
        const extraction = await this.extractor.extract(chat, chunk, payerOf(document), lease.signal);
        if (!extraction) return byNames(chunk, 'fallback', language);
        answers++;
        return { ordinal: chunk.ordinal, extractor: 'model', ...extraction };
      } catch (error) {
        if (!isRefusal(error)) throw error;
        // A model that answers others does not want this text; one that answers none has to be mended.
        if (answers > 0 || isRefusalOfText(error)) return byNames(chunk, 'fallback', language);
        refusal = error;
        if (refused.push(chunk) > MOST_REFUSED) throw error;
        return null;
      }
    };
    // The first lane that fails ends the chunks for the others, too: an iterator that is left early is closed.
    const lane = async (): Promise<void> => {
      for await (const chunk of chunks) {
        const extraction = await ask(chunk);
        if (extraction) await staged([extraction]);
      }
    };
    // What the other lanes have asked for is staged before anybody says how the attempt ended.
    const outcomes = await Promise.allSettled(Array.from({ length: LANES }, lane));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    if (refused.length === 0) return;
    if (answers === 0) throw refusal;
    await staged(await namesOf(refused, 'fallback', language));
  }

  private async *unextracted(documentId: string, lease: DocumentLease): AsyncGenerator<UnextractedChunk[]> {
    for (let after = -1; ;) {
      lease.signal.throwIfAborted();
      const batch = await this.database.run(tx =>
        this.repository.nextUnextracted(tx, documentId, after, CHUNKS_AT_ONCE),
      );
      if (batch.length > 0) yield batch;
      if (batch.length < CHUNKS_AT_ONCE) return;
      after = (batch.at(-1) as UnextractedChunk).ordinal;
    }
  }
}

async function* oneByOne<T>(batches: AsyncGenerator<T[]>): AsyncGenerator<T> {
  for await (const batch of batches) yield* batch;
}

/** A chunk's heading has capitals for other reasons than names. */
const byNames = (
  { ordinal, text }: UnextractedChunk,
  extractor: 'names' | 'fallback',
  language: string,
): StagedExtraction => ({ ordinal, extractor, ...extractNames(text, language) });

async function namesOf(
  chunks: readonly UnextractedChunk[],
  extractor: 'names' | 'fallback',
  language: string,
): Promise<StagedExtraction[]> {
  const extractions: StagedExtraction[] = [];
  for (const [index, chunk] of chunks.entries()) {
    if (index % CHUNKS_A_TURN === 0) await setImmediate();
    extractions.push(byNames(chunk, extractor, language));
  }
  return extractions;
}

const ownerOf = ({ id, tenantId, kbId }: ClaimedDocument): ChunkOwner => ({ documentId: id, tenantId, kbId });

const payerOf = ({ createdBy, tokenId }: ClaimedDocument) => ({ userId: createdBy, tokenId });
