import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { addressKey } from './address-key.js';

/**
 * Closes connections past so many, at once and without an answer: whoever holds them open without asking anything takes
 * nobody else's place.
 *
 * @param options.perAddress null: not counted, because all come from a proxy
 */
export function limitConnections(
  server: Server,
  { most, perAddress }: { most: number; perAddress: number | null },
): void {
  server.maxConnections = most;
  if (perAddress === null) return;
  const open = new Map<string, number>();
  server.on('connection', (socket: Socket) => {
    const key = addressKey(socket.remoteAddress ?? '');
    const count = (open.get(key) ?? 0) + 1;
    if (count > perAddress) {
      socket.destroy();
      return;
    }
    open.set(key, count);
    socket.once('close', () => {
      const left = (open.get(key) as number) - 1;
      if (left > 0) open.set(key, left);
      else open.delete(key);
    });
  });
}
