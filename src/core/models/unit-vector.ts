/**
 * Scales a vector to Euclidean length 1, so that inner product and cosine are the same.
 *
 * @returns null for what has no direction: a zero vector, or one with a value that is not a finite number
 */
export function unitVector(values: ArrayLike<number>): number[] | null {
  let squares = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    // A JSON null would count as 0 in arithmetic.
    if (!Number.isFinite(value)) return null;
    squares += (value as number) ** 2;
  }
  const length = Math.sqrt(squares);
  if (length === 0 || length === Infinity) return null;
  return Array.from(values, value => value / length);
}
