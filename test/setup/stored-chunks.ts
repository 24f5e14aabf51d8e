import { ChunksRepository, type IndexState } from '../../src/features/documents/chunks.repository.js';
import { type ChunkOwner, StagingRepository } from '../../src/features/documents/staging.repository.js';
import type { Tx } from '../../src/foundation/database/transaction.js';
import type { Chunk } from '../../src/foundation/extraction/chunk-splitter.js';

/** A chunk as the splitter and the embedding model made it. */
export interface NewChunk extends Chunk {
  embedding: readonly number[];
}

const AT_ONCE = 500;
const staging = new StagingRepository();
const repository = new ChunksRepository();

/** Makes these the chunks of a document, in the way of an ingestion. */
export async function storeChunks(
  tx: Tx,
  owner: ChunkOwner,
  chunks: readonly NewChunk[],
): Promise<IndexState> {
  await staging.begin(tx, owner, { version: 1, fingerprint: 'of a test', embeddingModel: 'of a test' });
  for (let start = 0; start < chunks.length; start += AT_ONCE) {
    const batch = chunks.slice(start, start + AT_ONCE);
    await staging.addChunks(tx, owner, batch);
    await staging.addVectors(
      tx,
      owner,
      batch.map(chunk => chunk.ordinal),
      batch.map(chunk => chunk.embedding),
    );
  }
  const state = await repository.swapIn(tx, owner, chunks.length);
  await staging.discard(tx, owner.documentId);
  return state;
}
