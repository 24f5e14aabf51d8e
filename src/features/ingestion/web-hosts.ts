import PQueue from 'p-queue';

/** Keeps requests to the same host from crowding it: so many at a time, the others wait for their turn. */
export class WebHosts {
  private readonly byHost = new Map<string, PQueue>();

  constructor(private readonly mostPerHost: number) {}

  /** @throws the reason of `signal` where that aborts while the work waits */
  async run<T>(host: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    let queue = this.byHost.get(host);
    if (!queue) {
      queue = new PQueue({ concurrency: this.mostPerHost });
      this.byHost.set(host, queue);
    }
    try {
      return await queue.add(
        () => {
          signal?.throwIfAborted();
          return work();
        },
        { signal },
      );
    } finally {
      if (queue.size === 0 && queue.pending === 0 && this.byHost.get(host) === queue)
        this.byHost.delete(host);
    }
  }
}
