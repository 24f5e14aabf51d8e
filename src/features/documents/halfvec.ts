/**
 * A vector of unit length (embedding models give no other) in the text form of pgvector's `halfvec`. Both
 * sides of a search have unit length, so the inner product, the cheapest distance, is the cosine.
 *
 * @throws RangeError where a component is not a finite number or there is none
 */
export function halfvecLiteral(vector: readonly number[]): string {
  if (vector.length === 0 || !vector.every(Number.isFinite)) {
    throw new RangeError('An embedding must have finite components');
  }
  // Half precision holds 3.3 decimal digits; five round to the same number in a third of the bytes.
  return `[${vector.map(component => component.toPrecision(5)).join(',')}]`;
}
