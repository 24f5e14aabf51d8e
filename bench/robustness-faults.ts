import { Redis } from 'ioredis';
import { closeSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Counted, Load } from './robustness-load.js';
import type { Place } from './robustness-place.js';

const QUIET_MS = 2_000;
/** Without trouble for so long, the server has recovered. */
const CALM_MS = 2_500;
const LONGEST_RECOVERY_MS = 60_000;
const HOUR_MS = 3_600_000;

interface BreakableThing {
  name: string;
  /** Milliseconds between its beginning and its end. */
  lasts: number;
  begin(): Promise<void> | void;
  end(): Promise<void> | void;
}

/**
 * Breaks one thing after the other under a load, and waits after each until the server serves again by itself.
 *
 * @param only parts of the names of the faults that are wanted; none: all
 * @returns how many things did not hold
 */
export async function measureFaults(place: Place, only: readonly string[]): Promise<number> {
  const faults = faultsOf(place).filter(
    ({ name }) => only.length === 0 || only.some(part => name.includes(part)),
  );
  const load = await Load.create(place.server.url);
  const rows: Record<string, Record<string, string | number>> = {};
  const said: string[] = [];
  let violations = 0;
  const violated = (fault: string, sentence: string) => {
    violations++;
    said.push(`${fault}: ${sentence}`);
  };
  try {
    for (const fault of faults) {
      const struck = await strike(fault, load).catch((error: unknown) => error as Error);
      if (struck instanceof Error) {
        // Nobody knows what still stands: what was measured before is told.
        await load.stop();
        violated(fault.name, `could not be tried: ${struck.message}`);
        break;
      }
      const { counted, recovery } = struck;
      const { unsettled, lost } = await lookAt(place, load);
      const { outcomes } = counted;
      rows[fault.name] = {
        requests: counted.requests,
        '2xx': outcomes['2xx'],
        'clean 4xx': outcomes['4xx'],
        '503, Retry-After': outcomes['503'],
        unclean: outcomes.unclean,
        'crossed tenants': counted.crossed,
        lost: lost.length,
        'served again after s': recovery === null ? 'never' : (recovery / 1000).toFixed(1),
      };
      said.push(...[...counted.notes].map(([note, times]) => `${fault.name}: ${times} × ${note}`));
      if (outcomes.unclean > 0) violated(fault.name, `${outcomes.unclean} answers are unclean`);
      if (counted.crossed > 0) violated(fault.name, `${counted.crossed} answers tell of the other tenant`);
      if (recovery === null) violated(fault.name, 'the server does not serve again by itself');
      violations += lost.length;
      for (const one of lost.slice(0, 10)) said.push(`${fault.name}: lost: ${one}`);
      for (const one of unsettled) violated(fault.name, one);
      if (place.server.hasEnded()) break;
    }
  } finally {
    await load.close();
  }
  console.table(rows);
  if (place.postgres && !place.postgres.isOwn)
    console.log('PostgreSQL is not this benchmark’s own: its sessions were ended instead of a restart.');
  if (!place.hasSmallDisk) console.log('No disk could be mounted (only root may): a full one was not tried.');
  for (const line of said) console.log(line);
  return violations;
}

/** A server that does not come back is a row of the table, not its end. */
async function lookAt(place: Place, load: Load): Promise<{ unsettled: string[]; lost: string[] }> {
  if (place.server.hasEnded()) return { unsettled: ['the server has ended'], lost: [] };
  const unsettled = (await load.settled()).map(one => `not ingested: ${one}`);
  try {
    return { unsettled, lost: await load.lost() };
  } catch (error) {
    const unseen = `what was acknowledged could not be read back: ${(error as Error).message}`;
    return { unsettled: [...unsettled, unseen], lost: [] };
  }
}

async function strike(
  fault: BreakableThing,
  load: Load,
): Promise<{ counted: Counted; recovery: number | null }> {
  load.start();
  await sleep(QUIET_MS);
  try {
    await fault.begin();
    await sleep(fault.lasts);
  } finally {
    await fault.end();
  }
  load.faultEnded();
  const ended = performance.now();
  for (;;) {
    await sleep(100);
    const now = performance.now();
    const { servedAgain, longestWait } = load;
    const calmSince = Math.max(ended, load.soFar.lastTrouble);
    const isCalm = servedAgain !== null && longestWait < CALM_MS && now - calmSince > CALM_MS;
    if (!isCalm && now - ended < LONGEST_RECOVERY_MS) continue;
    const counted = await load.stop();
    return { counted, recovery: isCalm ? servedAgain - ended : null };
  }
}

function faultsOf(place: Place): BreakableThing[] {
  const { postgres, redis, endSessions, model, clockFile, hasSmallDisk, installation } = place;
  const nothing = () => undefined;
  const faults: BreakableThing[] = [];
  if (postgres?.isOwn)
    faults.push({
      name: 'PostgreSQL is killed and starts again',
      lasts: 3_000,
      begin: () => postgres.kill(),
      end: () => postgres.start(),
    });
  if (endSessions && redis)
    faults.push({
      name: 'connections are cut',
      lasts: 0,
      begin: async () => {
        for (let time = 0; time < 8; time++) {
          await endSessions();
          await endConnections(redis.url);
          await sleep(300);
        }
      },
      end: nothing,
    });
  if (redis)
    faults.push(
      {
        name: 'Redis stops and starts again',
        lasts: 4_000,
        begin: () => redis.stop(),
        end: () => redis.start(),
      },
      { name: 'Redis says nothing', lasts: 4_000, begin: () => redis.freeze(), end: () => redis.thaw() },
    );
  faults.push(
    {
      name: 'the model server hangs',
      lasts: 14_000,
      begin: () => void (model.latency = 60_000),
      end: () => void (model.latency = 0),
    },
    clock('the clock jumps ahead by an hour', HOUR_MS),
    clock('the clock jumps back by an hour', -HOUR_MS),
  );
  if (hasSmallDisk) {
    const ballast = join(installation.dataDir, 'ballast');
    faults.push({
      name: 'the disk is full',
      lasts: 4_000,
      begin: () => fill(ballast),
      end: () => rmSync(ballast),
    });
  }
  return faults;

  function clock(name: string, ahead: number): BreakableThing {
    return {
      name,
      lasts: 4_000,
      begin: () => writeFileSync(clockFile, String(ahead)),
      end: () => writeFileSync(clockFile, '0'),
    };
  }
}

async function endConnections(url: string): Promise<void> {
  const redis = new Redis(url);
  await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  redis.disconnect();
}

/** To the last byte. */
function fill(path: string): void {
  const file = openSync(path, 'w');
  try {
    for (let size = 2 ** 20; size >= 1; size = Math.floor(size / 2)) {
      const block = Buffer.alloc(size);
      for (;;) {
        try {
          if (writeSync(file, block) < size) break;
        } catch {
          break;
        }
      }
    }
  } finally {
    closeSync(file);
  }
}
