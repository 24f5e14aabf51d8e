/**
 * Does `work` for each of the items, `most` of them at a time: half of what a request takes is waiting.
 *
 * @returns what came of each, in the order of the items
 */
export async function atOnce<T, R>(
  items: Iterable<T>,
  work: (item: T) => Promise<R>,
  most = 8,
): Promise<R[]> {
  const all = [...items];
  const results: R[] = [];
  let next = 0;
  const lane = async () => {
    while (next < all.length) {
      const index = next++;
      results[index] = await work(all[index] as T);
    }
  };
  await Promise.all(Array.from({ length: Math.min(most, all.length) }, lane));
  return results;
}
