import { Socket } from 'node:net';

type Done = (error?: Error | null) => void;

/**
 * A connection whose writes of one turn of the event loop leave together: BEGIN with the first statement, for one. Each
 * packet of its own costs a system call at both ends.
 */
export class GatheringSocket extends Socket {
  #gathering = false;

  override write(data: string | Uint8Array, done?: Done): boolean;
  override write(data: string | Uint8Array, encoding?: BufferEncoding, done?: Done): boolean;
  override write(...given: unknown[]): boolean {
    if (!this.#gathering) {
      this.#gathering = true;
      this.cork();
      setImmediate(() => {
        this.#gathering = false;
        this.uncork();
      });
    }
    return super.write(...(given as [string]));
  }
}
