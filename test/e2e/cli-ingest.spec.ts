import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseCommand, UsageError } from '../../src/cli-commands.js';
import { Problem } from '../../src/foundation/http/problem.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';

let app: TestApplication;
let folder: string;
let token: string;

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('acme');
  const scopes = ['kb:read', 'kb:create', 'document:read', 'document:create', 'document:update'];
  token = (await issueToken(app, app.admin, 'acme', { scopes, rate_limit_per_minute: 10_000 })).secret;
});
afterAll(() => app?.close());

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'enclave-test-'));
  return () => rmSync(folder, { recursive: true });
});

/** Another one after each start. */
const url = () => app.application.url as string;

function write(files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}

/** As a process of its own would, and what it says. */
async function run(...options: string[]) {
  const command = parseCommand(['ingest', folder, ...options]);
  const results: string[] = [];
  const notes: string[] = [];
  const output = {
    result: (line: string) => results.push(line),
    note: (line: string) => notes.push(line),
  };
  const code = await command(app.env, output);
  const counts = Object.fromEntries(
    results.flatMap(line => {
      const [, what, count] = /^(\D+?)\s+(\d+)$/.exec(line) ?? [];
      return what ? [[what, Number(count)]] : [];
    }),
  );
  return { code, counts, failed: results.filter(line => line.startsWith('failed: ')), notes };
}

const faultOf = async (...options: string[]): Promise<string> => {
  const fault = await run(...options).catch((error: unknown) => error);
  expect(fault).toBeInstanceOf(Problem);
  return (fault as Problem).detail;
};

async function documents(kb: string): Promise<Array<Record<string, any>>> {
  const { body } = await expectStatus(
    200,
    app.admin.get(`/tenants/acme/kbs/${kb}/documents?page_size=100&sort=title`),
  );
  return body.items;
}

const FILES = {
  'handbook/care.md': '# Care\n\nOil the chain once a month.',
  'handbook/Größe "L".txt': 'Frames of the size L are for people of 180 cm and more.',
  'warranty.html': '<!doctype html><title>Warranty</title><p>The warranty lasts two years.</p>',
  'zeros.bin': '\0\0\0\0',
  '.hidden/secret.md': 'Nobody asked for this.',
};

/** Twice over the same folder, which is another one the second time. */
async function bringTwice(kb: string, ...where: string[]): Promise<void> {
  const ingest = (...options: string[]) => run('--tenant=acme', `--kb=${kb}`, ...where, ...options);
  write(FILES);
  symlinkSync(join(folder, 'warranty.html'), join(folder, 'link.html'));
  const first = await ingest('--create-kb', '--metadata={"shelf":7}', '--concurrency=2');
  expect(first.counts).toEqual({ files: 4, ready: 3, unchanged: 0, failed: 1 });
  expect(first.failed).toEqual([expect.stringMatching(/^failed: zeros\.bin: unsupported_type: \w/)]);
  expect(first.notes).toContain('Left out: 1 symbolic link.');
  expect(first.code).toBe(1);
  // What is there is left alone, what has changed is a new version, what failed is tried again.
  write({ 'handbook/care.md': '# Care\n\nOil the chain twice a month.', 'zeros.bin': 'Now it is a text.' });
  const second = await ingest('--create-kb');
  expect(second).toMatchObject({ code: 0, counts: { files: 4, ready: 2, unchanged: 2, failed: 0 } });
}

async function expectBroughtTwice(kb: string): Promise<void> {
  const made = (await documents(kb)).map(({ source_id, file_name, version, metadata, status }) => [
    source_id,
    file_name,
    version,
    metadata,
    status,
  ]);
  const expected = (...fields: unknown[]) => [...fields, 'ready'];
  expect(made).toHaveLength(4);
  expect(made).toEqual(
    expect.arrayContaining([
      expected('handbook/care.md', 'care.md', 2, { shelf: 7 }),
      expected('handbook/Größe "L".txt', 'Größe "L".txt', 1, { shelf: 7 }),
      expected('warranty.html', 'warranty.html', 1, { shelf: 7 }),
      expected('zeros.bin', 'zeros.bin', 1, {}),
    ]),
  );
}

describe('enclave ingest', () => {
  it('brings a folder in over HTTP', async () => {
    await bringTwice('over-http', `--url=${url()}`, '--token-file', tokenFile());
    await expectBroughtTwice('over-http');
    const options = ['--tenant=acme', '--kb=over-http', '--url', url(), '--token', token];
    const part = await run(...options, '--include=**/*.md', '--include=*.txt');
    expect(part).toMatchObject({ code: 0, counts: { files: 2, ready: 0, unchanged: 2, failed: 0 } });
  });

  it('takes the same content once', async () => {
    write({ 'a.md': 'The same in both of them.', 'b.md': 'The same in both of them.' });
    const { code, counts } = await run(
      '--tenant=acme',
      '--kb=docs',
      '--url',
      `${url()}/api/v1/`,
      '--token',
      token,
    );
    expect(code).toBe(0);
    expect(counts).toMatchObject({ files: 2, failed: 0 });
    const same = (await documents('docs')).filter(({ title }) => ['a', 'b'].includes(title));
    expect(same).toHaveLength(1);
  });

  it('goes on where a file may be added, but not changed', async () => {
    const scopes = ['kb:read', 'document:read', 'document:create'];
    const adding = (await issueToken(app, app.admin, 'acme', { scopes })).secret;
    await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: 'shelf' }));
    const ingest = () => run('--tenant=acme', '--kb=shelf', '--url', url(), '--token', adding);
    write({ 'added/1.md': 'The first file that is added.' });
    expect((await ingest()).counts).toMatchObject({ files: 1, ready: 1 });
    write({ 'added/1.md': 'The first file, which has changed.', 'added/2.md': 'The second file.' });
    const { code, counts, failed } = await ingest();
    expect({ code, counts }).toMatchObject({ code: 1, counts: { files: 2, ready: 1, failed: 1 } });
    expect(failed).toEqual([expect.stringMatching(/^failed: added\/1\.md: \w+: .*document:update/)]);
  });

  it('stops cleanly at Ctrl-C, and goes on where it was', async () => {
    write(
      Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`${index}.md`, `Text number ${index}.`])),
    );
    const options = ['--tenant=acme', '--kb=docs', '--url', url(), '--token', token, '--concurrency=1'];
    const listeners = process.listenerCount('SIGINT');
    const running = run(...options);
    await expect
      .poll(async () => (await documents('docs')).length, { interval: 20, timeout: 20_000 })
      .toBeGreaterThan(2);
    process.emit('SIGINT');
    const stopped = await running;
    expect(stopped.code).toBe(130);
    expect(stopped.counts['not sent']).toBeGreaterThan(0);
    expect(stopped.notes.join('\n')).toContain('run the same command again');
    expect(process.listenerCount('SIGINT')).toBe(listeners);
    const again = await run(...options);
    expect(again).toMatchObject({ code: 0, counts: { files: 100, failed: 0 } });
    const made = (await documents('docs')).filter(({ source_id }) => /^\d+\.md$/.test(source_id));
    expect(made.map(({ version }) => version)).toEqual(Array.from({ length: 100 }, () => 1));
  });

  it('goes on through what passes', async () => {
    write({ 'a.md': 'Sent to a server that is busy at first.' });
    let requests = 0;
    // In front of the real one: says twice that it is busy.
    const busy = createServer((request, response) => {
      if (++requests <= 4 && requests % 2 === 0) {
        request.resume();
        response.writeHead(requests === 2 ? 429 : 503, { 'retry-after': '1' }).end();
        return;
      }
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { authorization, 'content-type': type } = request.headers;
        const headers = { authorization: authorization as string, ...(type && { 'content-type': type }) };
        const body = chunks.length > 0 ? Buffer.concat(chunks) : null;
        void fetch(`${url()}${request.url}`, { method: request.method as string, headers, body })
          .then(async answer => [answer, await answer.text()] as const)
          .then(([{ status, headers: answered }, text]) =>
            response.writeHead(status, { 'content-type': answered.get('content-type') ?? '' }).end(text),
          );
      });
    });
    await new Promise<void>(resolve => busy.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(busy.address() as AddressInfo).port}`;
    const { code } = await run('--tenant=acme', '--kb=docs', '--url', address, '--token', token);
    expect(code).toBe(0);
    expect(requests).toBeGreaterThan(4);
    busy.close();
    busy.closeAllConnections();
  });

  it('says in a sentence what is wrong', async () => {
    const server = ['--url', url(), '--token', token];
    expect(await faultOf('--tenant=acme', '--kb=nothing', ...server)).toBe(
      'The tenant "acme" has no knowledge base "nothing". With --create-kb it is made.',
    );
    expect(await faultOf('--tenant=globex', '--kb=docs', ...server)).toContain('There is no tenant "globex"');
    const docs = ['--tenant=acme', '--kb=docs'];
    expect(await faultOf(...docs, '--url', url(), '--token=rk_live_x')).toContain(
      'does not accept the token',
    );
    expect(await faultOf(...docs, '--url=http://127.0.0.1:1', '--token', token)).toContain('does not answer');
    write({ 'a.md': 'A text.' });
    const reader = await issueToken(app, app.admin, 'acme', { scopes: ['kb:read', 'document:read'] });
    expect(await faultOf(...docs, '--url', url(), '--token', reader.secret)).toContain('document:create');
  });

  it('brings a folder in by itself', async () => {
    // The embedded database is for one process at a time.
    await app.application.close();
    expect(await faultOf('--tenant=globex', '--kb=docs')).toBe('There is no tenant "globex".');
    await bringTwice('here');
    await app.restart();
    await expectBroughtTwice('here');
  }, 120_000);

  it.each([
    ['no folder', ['--tenant=acme', '--kb=docs'], []],
    ['a folder that is not there', ['--tenant=acme', '--kb=docs'], ['/nowhere/at/all']],
    ['no knowledge base', ['--tenant=acme'], ['.']],
    ['metadata that is no object', ['--tenant=acme', '--kb=docs', '--metadata=[1]'], ['.']],
    ['metadata that is no JSON', ['--tenant=acme', '--kb=docs', '--metadata={'], ['.']],
    ['too much at once', ['--tenant=acme', '--kb=docs', '--concurrency=99'], ['.']],
    ['an address without a token', ['--tenant=acme', '--kb=docs', '--url=http://localhost'], ['.']],
    ['a token without an address', ['--tenant=acme', '--kb=docs', '--token=x'], ['.']],
    [
      'an address of another kind',
      ['--tenant=acme', '--kb=docs', '--url=ftp://localhost', '--token=x'],
      ['.'],
    ],
    ['an option that is none', ['--tenant=acme', '--kb=docs', '--colour=red'], ['.']],
    ['two folders', ['--tenant=acme', '--kb=docs'], ['.', '.']],
  ])('refuses %s', (_, options, folders) => {
    expect(() => parseCommand(['ingest', ...folders, ...options])).toThrow(UsageError);
  });
});

function tokenFile(): string {
  const path = join(folder, '.token');
  writeFileSync(path, `${token}\n`);
  return path;
}
