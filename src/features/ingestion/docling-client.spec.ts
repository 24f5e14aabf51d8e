import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type RemoteServers, startRemoteServers } from '../../../test/setup/remote-servers.js';
import { DoclingClient, type DoclingOptions } from './docling-client.js';

describe('DoclingClient', () => {
  let servers: RemoteServers;
  let folder: string;
  let path: string;

  beforeEach(async () => {
    servers = await startRemoteServers();
    folder = await mkdtemp(join(tmpdir(), 'enclave-test-'));
    path = join(folder, 'file');
    await writeFile(path, '%PDF-1.4 a file');
  });
  afterEach(async () => {
    await servers.close();
    await rm(folder, { recursive: true, force: true });
  });

  const convert = (
    options: DoclingOptions & { apiKey?: string } = {},
    signal = new AbortController().signal,
  ) => {
    const apiKey = options.apiKey ?? servers.settings['DOCLING_API_KEY']!;
    const client = new DoclingClient({ url: servers.doclingUrl, apiKey }, { maxRetries: 1, ...options });
    return client.convert({ path, fileName: 'document.pdf', mimeType: 'application/pdf' }, signal);
  };

  it('asks for Markdown with text recognition, and waits for it', async () => {
    servers.pending = 2;
    await expect(convert()).resolves.toEqual({
      markdown: '# Converted\n\nFrom document.pdf.',
      pageCount: 1,
      partly: false,
    });
    expect(servers.lastForm).toMatchObject({
      fields: { to_formats: 'md', do_ocr: 'true', image_export_mode: 'placeholder' },
      file: { field: 'files', name: 'document.pdf', type: 'application/pdf' },
    });
    expect(servers.requests.get('GET /v1/status/poll/:id')).toBe(3);
  });

  it('counts pages, and tells where some could not be read', async () => {
    servers.convert = ({ fields }) => ({
      status: 'partial_success',
      markdown: ['One', 'Two', 'Three'].join(`\n\n${fields['md_page_break_placeholder']}\n\n`),
    });
    const { markdown, ...rest } = await convert();
    expect(rest).toEqual({ pageCount: 3, partly: true });
    expect(markdown).toMatch(/^One\s+Two\s+Three$/);
  });

  it.each(['failure', 'skipped'])('blames the file where the service says %s', async status => {
    servers.convert = () => ({ status, markdown: '' });
    await expect(convert()).rejects.toMatchObject({ name: 'DocumentError', code: 'damaged' });
  });

  it('tries a request again after a passing fault, each', async () => {
    servers.pending = 0;
    servers.failNext({ status: 503 });
    await expect(convert()).resolves.toMatchObject({ pageCount: 1 });
    servers.failNext({ status: 500 }, { reset: true });
    await expect(convert()).rejects.toMatchObject({ code: 'model_unavailable', retryable: true });
  });

  it('does not repeat what was refused, and does not quote it', async () => {
    const error: unknown = await convert({ apiKey: 'secret-key' }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'model_rejected',
      message: 'The Docling service answered 401: its API key is missing or wrong.',
    });
    expect(`${(error as Error).stack} ${JSON.stringify(error)}`).not.toContain('secret-key');
  });

  it.each(['not JSON', '{"task_id":"../../admin","task_status":"success"}', '{"task_status":"pending"}'])(
    'refuses the answer %s',
    async body => {
      servers.failNext({ status: 200, body });
      await expect(convert()).rejects.toMatchObject({ code: 'model_rejected', retryable: false });
    },
  );

  it('times out, whether the service is silent or never done', async () => {
    servers.failNext({ hang: 'headers' });
    await expect(convert({ timeout: () => 200 })).rejects.toMatchObject({ code: 'model_timeout' });
    servers.pending = Infinity;
    await expect(convert({ timeout: () => 200 })).rejects.toMatchObject({
      code: 'model_timeout',
      retryable: true,
    });
  });

  it('ends when the caller gives up', async () => {
    const controller = new AbortController();
    servers.pending = Infinity;
    const call = convert({}, controller.signal);
    await sleep(100);
    controller.abort(new Error('cancelled'));
    await expect(call).rejects.toThrow('cancelled');
  });
});
