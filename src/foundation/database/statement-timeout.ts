import type { Tx } from './transaction.js';

/**
 * For what goes through a whole knowledge base: the statements of this transaction that follow may take longer than any of a
 * request. Not for ever: what runs that long holds its locks for nobody.
 */
export async function letTakeItsTime(tx: Tx): Promise<void> {
  await tx.query(`SET LOCAL statement_timeout = '30min'`);
}
