import { readFileSync, writeFileSync } from 'node:fs';
import type { ServerProcess } from './child-process.js';

const SAMPLE_MS = 50;

/** Resident memory of a process, in bytes: now, and the most since the watch began. */
export interface MemoryWatch {
  peak(): Promise<number>;
}

/**
 * Watches how much memory a process takes. On Linux the kernel keeps the peak, which misses nothing; elsewhere the process
 * is asked every 50 ms.
 */
export function watchMemory(server: ServerProcess): MemoryWatch {
  if (forgetPeak(server.pid)) return { peak: () => Promise.resolve(ofKernel(server.pid, 'VmHWM') as number) };
  let peak = 0;
  const ask = async () => {
    peak = Math.max(peak, (await server.usage()).rss);
  };
  const timer = setInterval(() => void ask(), SAMPLE_MS);
  timer.unref();
  return {
    peak: async () => {
      clearInterval(timer);
      await ask();
      return peak;
    },
  };
}

export async function residentMemory(server: ServerProcess): Promise<number> {
  return ofKernel(server.pid, 'VmRSS') ?? (await server.usage()).rss;
}

export const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`;

/** proc(5): writing 5 resets the peak. */
function forgetPeak(pid: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
    return ofKernel(pid, 'VmHWM') !== null;
  } catch {
    return false;
  }
}

function ofKernel(pid: number, field: 'VmHWM' | 'VmRSS'): number | null {
  try {
    const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(
      readFileSync(`/proc/${pid}/status`, 'utf8'),
    )?.[1];
    return kilobytes === undefined ? null : Number(kilobytes) * 1024;
  } catch {
    return null;
  }
}
