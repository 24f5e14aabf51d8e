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

/** Rules for us, and the length of one: more than any path that is fetched. */
const MOST_RULES = 5_000;
const LONGEST_RULE = 2_000;
/** Stars of one rule, and characters of all rules with stars: each may be compared with every place of a path. */
const MOST_STARS = 10;
const MOST_STARRED = 32_000;

/**
 * What a robots.txt says to us, in rules that are matched in a short time: it is text of whoever has put it there, and
 * matching would keep the process from everything else. Rules that take too long, and those for others, are left out.
 */
export function tamed(contents: string, userAgent: string): string {
  const product = productOf(userAgent);
  let [rules, starred] = [0, 0];
  /** Those that the group which has begun is for. */
  let group = new Set<string>();
  let naming = false;
  const lineOf = (line: string): string => {
    const [, key = '', value = ''] = /^([^:]*):(.*)$/s.exec(line.replace(/#.*/s, '')) ?? [];
    const name = key.trim().toLowerCase();
    if (name === '') return '';
    if (name === 'user-agent') {
      if (!naming) group = new Set();
      naming = true;
      const agent = productOf(value);
      const known = agent === product || agent === '*' ? agent : OTHERS;
      if (value.trim() === '' || group.has(known)) return '';
      group.add(known);
      return `user-agent: ${known}`;
    }
    naming = false;
    if (name !== 'allow' && name !== 'disallow') return name === 'crawl-delay' ? 'crawl-delay: 1' : NO_RULE;
    if (group.size === 0 || (group.size === 1 && group.has(OTHERS))) return NO_RULE;
    const rule = value.trim().replaceAll(/\*+/g, '*');
    const stars = rule.split('*').length - 1;
    // The parser compares them as they stand in addresses.
    const { length } = encodeURI(rule).replaceAll('%25', '%');
    if (stars > 0) starred += length;
    const short = length <= LONGEST_RULE && stars <= MOST_STARS && (stars === 0 || starred <= MOST_STARRED);
    // The group stays one of ours without it.
    return short && ++rules <= MOST_RULES ? `${name}: ${rule}` : `${name}:`;
  };
  return contents
    .split(/\r\n|\r|\n/)
    .map(lineOf)
    .filter(line => line !== '')
    .join('\n');
}

/** Stand for other robots, and for what is no rule but ends the naming of robots. */
const OTHERS = '-';
const NO_RULE = 'other: -';

/** As the parser compares them: without the version. */
const productOf = (userAgent: string): string => userAgent.toLowerCase().split('/', 1)[0]!.trim();

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
    const contents = status >= 200 && status < 300 ? body.toString('utf8') : '';
    return robotsParser(address, tamed(contents, this.userAgent));
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
