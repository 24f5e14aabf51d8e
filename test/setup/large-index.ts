import { type LargeIndexOptions, nextStep } from '../../src/features/retrieval/large-index-steps.js';
import { LargeIndexRepository } from '../../src/features/retrieval/large-index.repository.js';
import type { Tx } from '../../src/foundation/database/transaction.js';

const repository = new LargeIndexRepository();
const AT_ONCE = { addVectors: 1_000, addTerms: 8_192 };

/**
 * Does what the background job does for one knowledge base, until there is nothing left to do.
 *
 * @param run a transaction that sees all of its tenant
 * @returns what was done, step by step
 */
export async function updateLargeIndex(
  run: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>,
  kbId: string,
  options: LargeIndexOptions,
): Promise<string[]> {
  const steps: string[] = [];
  for (;;) {
    const done = await run(async tx => {
      const state = await repository.lock(tx, kbId, true);
      const step = state && nextStep(state, options, true);
      return state && step && (await repository.take(tx, kbId, state, step, AT_ONCE)) ? step.do : null;
    });
    if (done === null) return steps;
    steps.push(done);
  }
}
