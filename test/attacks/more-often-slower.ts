import { setTimeout as sleep } from 'node:timers/promises';

/**
 * How often `first` takes longer than `second`, of all pairs of their times: 0.5 where they take the same, whatever else
 * the machine does meanwhile; near 0 or 1 where one of them does more (the statistic of Mann and Whitney, over n·m).
 *
 * @param times how often each is asked, in turns
 * @param settle milliseconds between two: what one of them has set off must not slow down the other
 */
export async function moreOftenSlower(
  times: number,
  first: () => Promise<unknown>,
  second: () => Promise<unknown>,
  settle = 0,
): Promise<number> {
  const took: [number[], number[]] = [[], []];
  const measure = async (which: 0 | 1) => {
    const started = process.hrtime.bigint();
    await (which === 0 ? first : second)();
    took[which].push(Number(process.hrtime.bigint() - started));
    if (settle > 0) await sleep(settle);
  };
  // Whoever comes second of two finds a warmer machine: they take turns in that, too.
  for (let turn = 0; turn < times; turn++) {
    await measure(turn % 2 === 0 ? 0 : 1);
    await measure(turn % 2 === 0 ? 1 : 0);
  }
  const [firsts, seconds] = took;
  const wins = firsts.reduce(
    (sum, one) => sum + seconds.reduce((won, other) => won + (one > other ? 1 : one === other ? 0.5 : 0), 0),
    0,
  );
  return wins / (firsts.length * seconds.length);
}
