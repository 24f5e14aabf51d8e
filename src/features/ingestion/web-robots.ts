import { LRUCache } from 'lru-cache';
import robotsModule from 'robots-parser';
import { type OutboundAnswer, type OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { WebFault, refusedBy, webFaultOf } from './web-fault.js';

interface Robots {
  /** Undefined for an address that is not of this server. */
  isAllowed(url: string, userAgent: string): boolean | undefined;
}

/** Its types are those of a module that it is not. */
const robotsParser = robotsModule as unknown as (url: string, contents: string) => Robots;

/** Bytes that have to be read at least (RFC 9309, 2.5). */
const MOST_BYTES = 512 * 1024;
/** RFC 9309, 2.3.1.2. */
const REDIRECTS = 5;
const TIMEOUT_MS = 15_000;
const MOST_ORIGINS = 1_000;
const KEEP_MS = 60 * 60 * 1000;

/** What servers say robots may fetch, remembered for an hour. */
export class WebRobots {
  private readonly byOrigin = new LRUCache<string, Promise<Robots>>({ max: MOST_ORIGINS, ttl: KEEP_MS });

  constructor(
    private readonly outbound: OutboundClient,
    private readonly userAgent: string,
  ) {}

  /** @throws WebFault `robots_disallowed`; `fetch_failed` where the server does not say now what it allows */
  async requireAllowed(url: URL): Promise<void> {
    const rules = await this.rulesOf(url.origin);
    if (rules.isAllowed(url.href, this.userAgent) === false) {
      throw new WebFault('robots_disallowed', 'The server’s robots.txt disallows this page.');
    }
  }

  private rulesOf(origin: string): Promise<Robots> {
    let rules = this.byOrigin.get(origin);
    if (!rules) {
      rules = this.read(origin);
      this.byOrigin.set(origin, rules);
      // Those who wait for it hear of the fault; whoever comes next asks again.
      rules.catch(() => this.byOrigin.delete(origin));
    }
    return rules;
  }

  private async read(origin: string): Promise<Robots> {
    const address = `${origin}/robots.txt`;
    const { status, headers, body } = await this.ask(address);
    // Where there is none, all is allowed (RFC 9309, 2.3.1.3); who is too busy to say has not allowed it (2.3.1.4).
    if (status >= 500 || status === 429) {
      const { retryAfter } = refusedBy(status, headers['retry-after']);
      throw new WebFault(
        'fetch_failed',
        `The server answered with the status ${status} when it was asked for its robots.txt.`,
        { passing: true, retryAfter },
      );
    }
    return robotsParser(address, status >= 200 && status < 300 ? body.toString('utf8') : '');
  }

  private async ask(url: string): Promise<OutboundAnswer> {
    try {
      return await this.outbound.send({
        url,
        method: 'GET',
        headers: { 'user-agent': this.userAgent, accept: 'text/plain, */*;q=0.5' },
        timeout: TIMEOUT_MS,
        mostBytes: MOST_BYTES,
        overflow: 'cut',
        redirects: REDIRECTS,
      });
    } catch (error) {
      throw webFaultOf(error);
    }
  }
}
