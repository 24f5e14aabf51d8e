import { Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { unlessAborted } from '../../core/models/batches.js';
import type { EmbeddingModel } from '../../core/models/model.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';

/** Of all vectors that are remembered. */
const MOST_BYTES = 32 * 1024 * 1024;
/** Of an entry beside its numbers. */
const ENTRY_BYTES = 300;

export interface QueryVector {
  vector: readonly number[];
  /** Whether the model was not asked, because somebody of the tenant has asked the same. */
  remembered: boolean;
}

/** A vector that a model works on, and how many wait for it. */
interface UnderWay {
  vector: Promise<number[]>;
  given: AbortController;
  waiting: number;
}

/**
 * The vectors of queries, each made once for a tenant, a model and a text. Nobody gets another tenant's, not even where
 * both ask the same model the same.
 */
@Injectable()
export class QueryVectors {
  private readonly known = new LRUCache<string, readonly number[]>({
    maxSize: MOST_BYTES,
    sizeCalculation: vector => vector.length * 8 + ENTRY_BYTES,
  });
  private readonly underWay = new Map<string, UnderWay>();
  /** A model that was changed is another object, whatever its name. */
  private readonly models = new WeakMap<EmbeddingModel, number>();
  private modelCount = 0;

  constructor(private readonly context: TenantContext) {}

  /** @throws ModelError, or the signal's reason */
  async of(model: EmbeddingModel, text: string, signal: AbortSignal): Promise<QueryVector> {
    signal.throwIfAborted();
    const key = this.keyOf(model, text);
    const vector = this.known.get(key);
    if (vector) return { vector, remembered: true };
    const begun = this.underWay.get(key);
    const work = begun ?? this.begin(key, model, text);
    work.waiting++;
    try {
      return { vector: await unlessAborted(() => work.vector, signal), remembered: begun !== undefined };
    } finally {
      if (--work.waiting === 0 && signal.aborted) work.given.abort(signal.reason);
    }
  }

  private begin(key: string, model: EmbeddingModel, text: string): UnderWay {
    const given = new AbortController();
    const vector = model.embedQuery(text, { signal: given.signal });
    const work: UnderWay = { vector, given, waiting: 0 };
    this.underWay.set(key, work);
    vector
      .then(
        made => void this.known.set(key, made),
        // Whoever waits for it hears of it.
        () => undefined,
      )
      .finally(() => {
        if (this.underWay.get(key) === work) this.underWay.delete(key);
      });
    // Nobody joins work that is being given up.
    given.signal.addEventListener('abort', () => {
      if (this.underWay.get(key) === work) this.underWay.delete(key);
    });
    return work;
  }

  private keyOf(model: EmbeddingModel, text: string): string {
    let number = this.models.get(model);
    if (number === undefined) this.models.set(model, (number = ++this.modelCount));
    const hash = createHash('sha256').update(text).digest('base64');
    return `${this.context.tenant.id} ${number} ${hash}`;
  }
}
