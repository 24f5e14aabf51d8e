import { once } from 'node:events';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Resolve } from './guarded-connector.js';
import {
  OutboundClient,
  type OutboundRequest,
  type OutboundStream,
  type OutboundStreamRequest,
} from './outbound-client.js';
import { OutboundError } from './outbound-error.js';

type Handler = (request: IncomingMessage, response: ServerResponse) => unknown;

let server: Server;
let port: number;
let handler: Handler;
let requests: string[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    void handler(request, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const failing: Resolve = (_, __, callback) => callback(new Error('not to be asked'), []);
/** A resolver whose answers are made up. */
const resolveTo =
  (...addresses: string[]): Resolve =>
  (_, __, callback) =>
    callback(
      null,
      addresses.map(address => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
const strict = (resolve: Resolve = failing) => new OutboundClient({ allowedHosts: [], resolve });
const local = () => new OutboundClient({ allowedHosts: [{ host: '127.0.0.1', port: null }] });
const request = (url: string, more: Partial<OutboundRequest> = {}): OutboundRequest => ({
  url,
  method: 'GET',
  timeout: 2_000,
  mostBytes: 1_000,
  ...more,
});
const here = (path = '/') => `http://127.0.0.1:${port}${path}`;
const fault = async (promise: Promise<unknown>): Promise<string> => {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OutboundError);
  return (error as OutboundError).code;
};
const codeOf = (url: string, options?: { httpsOnly: boolean }): string => {
  try {
    strict().check(url, options);
    return 'ok';
  } catch (error) {
    return (error as OutboundError).code;
  }
};

describe('an address by itself', () => {
  it.each([
    ['https://hooks.example.com/a?b=c', 'ok'],
    ['http://hooks.example.com:8080/', 'ok'],
    ['https://8.8.8.8/', 'ok'],
    ['https://[2606:4700::1111]/', 'ok'],
    ['not a url', 'invalid_url'],
    ['https://', 'invalid_url'],
    ['//hooks.example.com', 'invalid_url'],
    ['ftp://hooks.example.com', 'unsupported_scheme'],
    ['file:///etc/passwd', 'unsupported_scheme'],
    ['gopher://127.0.0.1', 'unsupported_scheme'],
    ['data:text/plain,x', 'unsupported_scheme'],
    ['https://user@hooks.example.com', 'credentials_in_url'],
    ['https://user:pass@hooks.example.com', 'credentials_in_url'],
    ['https://hooks.example.com@127.0.0.1/', 'credentials_in_url'],
    ['http://hooks.example.com:22/', 'port_refused'],
    ['http://hooks.example.com:25/', 'port_refused'],
    ['http://hooks.example.com:0/', 'port_refused'],
  ])('%s: %s', (url, code) => expect(codeOf(url)).toBe(code));

  // Spellings of 127.0.0.1, 169.254.169.254, 10.0.0.1, 0.0.0.0 and ::1.
  it.each([
    'http://127.0.0.1/',
    'http://127.1/',
    'http://127.0.1/',
    'http://2130706433/',
    'http://0x7f000001/',
    'http://0x7f.0.0.1/',
    'http://0177.0.0.1/',
    'http://017700000001/',
    'http://127.0.0.1./',
    'http://１２７.０.０.１/',
    'http://127。0。0。1/',
    'http://%31%32%37.0.0.1/',
    'http:127.0.0.1/',
    'http:\\\\127.0.0.1\\',
    'http://①②⑦.0.0.1/',
    'http://169.254.169.254/latest/meta-data/',
    'http://2852039166/',
    'http://0xa9fea9fe/',
    'http://0251.0376.0251.0376/',
    'http://10.1/',
    'http://0/',
    'http://0.0.0.0:8080/',
    'http://[::]/',
    'http://[::1]/',
    'http://[0:0:0:0:0:0:0:1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:7f00:1]/',
    'http://[::127.0.0.1]/',
    'http://[64:ff9b::127.0.0.1]/',
    'http://[2002:7f00:1::]/',
    'http://[fd00:ec2::254]/',
    'http://[fe80::1]/',
    'http://localhost/',
    'http://LOCALHOST./',
    'http://api.localhost/',
  ])('%s is refused', url => expect(codeOf(url)).toBe('address_refused'));

  it('must be https where it is asked for, but for hosts that the settings allow', () => {
    expect(codeOf('http://hooks.example.com/', { httpsOnly: true })).toBe('https_required');
    expect(codeOf('https://hooks.example.com/', { httpsOnly: true })).toBe('ok');
    expect(() => local().check(here(), { httpsOnly: true })).not.toThrow();
  });
});

describe('hosts that the settings allow', () => {
  const client = new OutboundClient({
    allowedHosts: [
      { host: 'hooks.internal', port: 81 },
      { host: '[::1]', port: null },
    ],
    resolve: resolveTo('10.0.0.1'),
  });

  it('are those alone, on the port that is named alone', () => {
    expect(() => client.check('http://hooks.internal:81/')).not.toThrow();
    expect(() => client.check('http://HOOKS.internal.:81/')).not.toThrow();
    expect(() => client.check('http://[0:0::1]:9/')).not.toThrow();
    expect(() => client.check('http://hooks.internal:82/')).toThrow(OutboundError);
    expect(() => client.check('http://127.0.0.1:81/')).toThrow(OutboundError);
  });

  it('on another port are as private as all others', async () => {
    expect(await fault(client.send(request('http://hooks.internal/')))).toBe('address_refused');
    expect(await fault(client.send(request('http://sub.hooks.internal:8181/')))).toBe('address_refused');
  });
});

describe('the address that is connected to', () => {
  it.each([
    ['a private one', ['10.0.0.1']],
    ['loopback', ['127.0.0.1']],
    ['loopback in IPv6', ['::1']],
    ['metadata', ['169.254.169.254']],
    ['mapped', ['::ffff:127.0.0.1']],
    ['a private one beside a public one', ['93.184.216.34', '10.0.0.1']],
    ['none', []],
  ])('is refused: %s', async (_, addresses) => {
    requests = [];
    const client = strict(resolveTo(...addresses));
    expect(await fault(client.send(request(`http://rebound.example:${port}/`)))).toBe('address_refused');
    expect(requests).toEqual([]);
  });

  it('is the one that was checked: a name that changes its mind is asked once', async () => {
    // The second answer would lead to the server that listens here.
    const answers = [['192.0.2.1'], ['127.0.0.1']];
    const resolve = vi.fn<Resolve>((...given) => resolveTo(...(answers.shift() ?? ['127.0.0.1']))(...given));
    expect(await fault(strict(resolve).send(request(`http://rebound.example:${port}/`)))).toBe(
      'address_refused',
    );
    expect(resolve).toHaveBeenCalledTimes(1);
  });

  it('is told apart from a name that nobody knows by nothing', async () => {
    const unknown: Resolve = (_, __, callback) =>
      callback(Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' }), []);
    const messages = await Promise.all(
      [unknown, resolveTo('10.0.0.1')].map(resolve =>
        strict(resolve)
          .send(request('http://db.internal:8080/'))
          .catch((error: OutboundError) => `${error.code} ${error.message}`),
      ),
    );
    expect(new Set(messages).size).toBe(1);
  });

  it('stands in the URL itself, and is never looked up', async () => {
    expect(await fault(strict().send(request(here())))).toBe('address_refused');
  });
});

describe('an exchange', () => {
  it('sends what it is given, and hands the answer on', async () => {
    handler = async (incoming, response) => {
      const body = await text(incoming);
      response.writeHead(201, { 'X-Answer': 'yes' });
      response.end([incoming.headers['x-given'], body, incoming.headers['accept-encoding']].join(' '));
    };
    const answer = await local().send(
      request(here('/path?x=1'), { method: 'POST', headers: { 'x-given': 'a' }, body: 'b' }),
    );
    expect(answer).toMatchObject({ status: 201, headers: { 'x-answer': 'yes' }, cut: false });
    expect(answer.body.toString()).toBe('a b identity');
    expect(requests.at(-1)).toBe('POST /path?x=1');
  });

  it('does not follow redirects by itself', async () => {
    handler = (_, response) => response.writeHead(302, { location: here('/elsewhere') }).end();
    requests = [];
    expect(await local().send(request(here()))).toMatchObject({ status: 302 });
    expect(requests).toEqual(['GET /']);
  });

  it('follows them where it may, each through the same check', async () => {
    const leads = new Map([
      ['/one', [301, '/two']],
      ['/two', [307, '/three']],
      ['/inside', [302, 'http://10.0.0.1/']],
      ['/scheme', [302, 'file:///etc/passwd']],
      ['/round', [302, '/round']],
      ['/other', [302, `http://localhost:${port}/three`]],
    ]);
    handler = (incoming, response) => {
      const [status, location] = leads.get(incoming.url ?? '') ?? [200];
      response.writeHead(status as number, location ? { location: location as string } : {});
      response.end(JSON.stringify([incoming.method, incoming.headers['authorization'] ?? null]));
    };
    const allowed = new OutboundClient({
      allowedHosts: [
        { host: '127.0.0.1', port: null },
        { host: 'localhost', port: null },
      ],
    });
    const follow = (path: string) =>
      allowed.send(request(here(path), { redirects: 3, headers: { authorization: 'secret' } }));
    expect(await follow('/one')).toMatchObject({ status: 200, url: here('/three') });
    expect((await follow('/one')).body.toString()).toBe('["GET","secret"]');
    // What was written for one server is not shown to another.
    expect((await follow('/other')).body.toString()).toBe('["GET",null]');
    expect(await fault(follow('/inside'))).toBe('address_refused');
    expect(await fault(follow('/scheme'))).toBe('unsupported_scheme');
    expect(await fault(follow('/round'))).toBe('too_many_redirects');
  });

  it('ends in time, whatever the server does', async () => {
    const started = Date.now();
    handler = () => undefined;
    expect(await fault(local().send(request(here(), { timeout: 300 })))).toBe('timeout');
    handler = (_, response) => {
      response.writeHead(200).write('a');
      const drip = setInterval(() => response.write('b'), 50);
      response.on('close', () => clearInterval(drip));
    };
    expect(await fault(local().send(request(here(), { timeout: 300 })))).toBe('timeout');
    const cut = await local().send(request(here(), { timeout: 300, overflow: 'cut' }));
    expect(cut).toMatchObject({ status: 200, cut: true });
    expect(cut.body.toString()).toMatch(/^ab+$/);
    expect(Date.now() - started).toBeLessThan(5_000);
  });

  it('takes no more of an answer than it may', async () => {
    handler = (_, response) => response.end('x'.repeat(500_000));
    expect(await fault(local().send(request(here())))).toBe('answer_too_large');
    const { body, cut } = await local().send(request(here(), { overflow: 'cut' }));
    expect([body.length, cut]).toEqual([1_000, true]);
    handler = (_, response) => response.writeHead(200, { 'x-long': 'x'.repeat(20_000) }).end();
    expect(await fault(local().send(request(here())))).toBe('invalid_answer');
  });

  it('ends with the signal’s own reason', async () => {
    handler = () => undefined;
    const controller = new AbortController();
    const sent = local().send(request(here(), { signal: controller.signal }));
    const reason = new Error('shutting down');
    setTimeout(() => controller.abort(reason), 50);
    await expect(sent).rejects.toBe(reason);
  });

  it('says what went wrong with a code that is stable, and no address', async () => {
    const tcp = createTcpServer(socket =>
      socket.once('data', () => socket.end('SSH-2.0-OpenSSH_9.2\r\n')),
    ).listen(0, '127.0.0.1');
    const closing = createTcpServer(socket => socket.destroy()).listen(0, '127.0.0.1');
    await Promise.all([once(tcp, 'listening'), once(closing, 'listening')]);
    const portOf = (listening: TcpServer) => (listening.address() as AddressInfo).port;
    const outcomes = await Promise.all(
      [
        `http://127.0.0.1:${portOf(tcp)}/`,
        `https://127.0.0.1:${portOf(tcp)}/`,
        `http://127.0.0.1:${portOf(closing)}/`,
        'http://127.0.0.1:1/',
      ].map(url =>
        local()
          .send(request(url))
          .catch((error: OutboundError) => error),
      ),
    );
    expect(outcomes.map(outcome => (outcome as OutboundError).code)).toEqual([
      'invalid_answer',
      'tls_failed',
      'connection_failed',
      'connection_failed',
    ]);
    for (const outcome of outcomes) expect((outcome as OutboundError).message).not.toMatch(/127|SSH/);
    handler = (_, response) => response.end();
    expect(await fault(local().send(request(here(), { headers: { 'x-bad': 'a\r\nb' } })))).toBe(
      'invalid_request',
    );
    tcp.close();
    closing.close();
  });
});

describe('an answer that is read as it comes', () => {
  const open = (path = '/', more: Partial<OutboundStreamRequest> = {}) =>
    local().open({ url: here(path), method: 'GET', timeout: 2_000, mostBytes: 1_000, ...more });
  const bodyOf = async (stream: OutboundStream) => String(await buffer(stream.body));

  it('is there before its end is', async () => {
    let finish: () => void = () => undefined;
    handler = (_, response) => {
      response.writeHead(200, { 'x-answer': 'yes' }).write('first ');
      finish = () => response.end('last');
    };
    const stream = await open();
    expect(stream).toMatchObject({ status: 200, headers: { 'x-answer': 'yes' }, url: here() });
    const pieces: string[] = [];
    for await (const piece of stream.body) {
      pieces.push(String(piece));
      finish();
    }
    expect(pieces.join('')).toBe('first last');
  });

  it.each<[string, (text: string) => Buffer]>([
    ['gzip', gzipSync],
    ['br', brotliCompressSync],
    ['deflate', deflateSync],
    ['identity', (content: string) => Buffer.from(content)],
  ])('comes unpacked, of the coding %s', async (coding, pack) => {
    handler = (incoming, response) => {
      response.writeHead(200, { 'content-encoding': coding });
      response.end(pack(`asked for ${incoming.headers['accept-encoding']}`));
    };
    expect(await bodyOf(await open('/', { unpack: true }))).toBe('asked for gzip, br');
    // Whoever does not want that gets it as it is.
    expect(await buffer((await open()).body)).toEqual(pack('asked for identity'));
  });

  it('is no larger than it may be, neither packed nor unpacked', async () => {
    handler = (_, response) => response.end('x'.repeat(1_001));
    expect(await fault(open().then(bodyOf))).toBe('answer_too_large');
    handler = (_, response) => response.end('x'.repeat(1_000));
    expect(await bodyOf(await open())).toHaveLength(1_000);
    const bomb = gzipSync(Buffer.alloc(20_000_000));
    handler = (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb);
    expect(await fault(open('/', { unpack: true, mostBytes: 100_000 }).then(bodyOf))).toBe(
      'answer_too_large',
    );
    // Members without any content, one after the other.
    const empty = Buffer.concat(Array.from({ length: 100 }, () => gzipSync('')));
    handler = (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(empty);
    expect(await fault(open('/', { unpack: true }).then(bodyOf))).toBe('answer_too_large');
  });

  it.each<[string, string | Buffer]>([
    ['gzip', 'not packed at all'],
    ['gzip', gzipSync('x'.repeat(500)).subarray(0, 15)],
    ['br', 'not packed at all'],
    ['zstd', 'whatever'],
    ['gzip, gzip', gzipSync(gzipSync('twice'))],
  ])('that is not what its coding %s says is not valid', async (coding, content) => {
    handler = (_, response) => response.writeHead(200, { 'content-encoding': coding }).end(content);
    expect(await fault(open('/', { unpack: true }).then(bodyOf))).toBe('invalid_answer');
  });

  it('ends in time, and when it is told to', async () => {
    handler = (_, response) => {
      response.writeHead(200).write('a');
      const drip = setInterval(() => response.write('b'), 20);
      response.on('close', () => clearInterval(drip));
    };
    expect(await fault(open('/', { timeout: 300, mostBytes: 100_000 }).then(bodyOf))).toBe('timeout');
    const controller = new AbortController();
    const stream = await open('/', { signal: controller.signal, mostBytes: 100_000 });
    const reason = new Error('not wanted any more');
    setTimeout(() => controller.abort(reason), 50);
    await expect(bodyOf(stream)).rejects.toBe(reason);
  });

  it('lets go of the server when nobody reads on', async () => {
    const closed: Array<Promise<unknown>> = [];
    handler = (_, response) => {
      closed.push(once(response, 'close'));
      response.writeHead(200).write('a');
    };
    const broken = await open();
    for await (const _ of broken.body) break;
    (await open()).close();
    await Promise.all(closed);
    expect(closed).toHaveLength(2);
  });

  it('asks before every address, and goes on only where it may', async () => {
    handler = (incoming, response) =>
      incoming.url === '/one'
        ? response.writeHead(302, { location: '/two' }).end('on to the next')
        : response.end('here');
    const asked: string[] = [];
    const before = (url: URL) => {
      asked.push(url.pathname);
      return url.pathname === '/three' ? Promise.reject(new Error('not there')) : Promise.resolve();
    };
    expect(await bodyOf(await open('/one', { redirects: 1, before }))).toBe('here');
    expect(asked).toEqual(['/one', '/two']);
    requests = [];
    await expect(open('/three', { before })).rejects.toThrow('not there');
    expect(requests).toEqual([]);
  });

  it('never comes from a private address, also after a redirect', async () => {
    for (const location of ['http://10.0.0.1/', 'http://169.254.169.254/', `http://[::1]:${port}/`]) {
      handler = (_, response) => response.writeHead(302, { location }).end();
      expect(await fault(open('/', { redirects: 5 }))).toBe('address_refused');
    }
    const rebound = strict(resolveTo('127.0.0.1')).open({
      url: `http://rebound.example:${port}/`,
      method: 'GET',
      timeout: 1_000,
      mostBytes: 10,
    });
    expect(await fault(rebound)).toBe('address_refused');
  });
});

describe('an exchange', () => {
  const exchange = (client: OutboundClient, url = here(), signal = new AbortController().signal) =>
    client.exchange({ url, method: 'POST', body: 'a question', signal });
  const textOf = async ({ body }: OutboundStream): Promise<string> => {
    const parts: Buffer[] = [];
    for await (const part of body) parts.push(part);
    return Buffer.concat(parts).toString('utf8');
  };

  it('keeps its connection for the next one to the same server', async () => {
    const ports = new Set<number | undefined>();
    handler = async (incoming, response) => {
      ports.add(incoming.socket.remotePort);
      response.end(`${incoming.method} ${await text(incoming)}`);
    };
    const client = local();
    for (let count = 0; count < 3; count++)
      expect(await textOf(await exchange(client))).toBe('POST a question');
    // The first may not be quite done when the second begins.
    expect(ports.size).toBeLessThan(3);
  });

  it('gives the answer as it comes', async () => {
    let more: () => void = () => undefined;
    handler = (_, response) => {
      response.write('one');
      more = () => response.end('two');
    };
    const { body } = await exchange(local());
    const pieces = body[Symbol.asyncIterator]();
    expect(String((await pieces.next()).value)).toBe('one');
    more();
    expect(String((await pieces.next()).value)).toBe('two');
  });

  it('follows no redirect', async () => {
    handler = (_, response) => response.writeHead(307, { location: here('/elsewhere') }).end();
    requests = [];
    expect((await exchange(local())).status).toBe(307);
    expect(requests).toEqual(['POST /']);
  });

  it('leads to no private address, whatever its name means by now', async () => {
    requests = [];
    for (const url of [here(), 'http://10.0.0.1/', 'http://[::1]:8080/', 'http://localhost:8080/'])
      expect(await fault(exchange(strict(), url))).toBe('address_refused');
    expect(await fault(exchange(strict(resolveTo('127.0.0.1')), `http://rebound.example:${port}/`))).toBe(
      'address_refused',
    );
    expect(await fault(exchange(strict(resolveTo('1.1.1.1', '10.0.0.1')), 'http://mixed.example/'))).toBe(
      'address_refused',
    );
    expect(requests).toEqual([]);
  });

  it('ends with its signal, and with its reason', async () => {
    handler = () => undefined;
    const controller = new AbortController();
    const asked = exchange(local(), here(), controller.signal);
    setTimeout(() => controller.abort(new Error('gone')), 50);
    await expect(asked).rejects.toThrow('gone');
  });
});
