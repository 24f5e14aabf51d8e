import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type RemoteServers, startRemoteServers, wavOf } from '../../../test/setup/remote-servers.js';
import { OpenAITranscription, type OpenAITranscriptionOptions } from './transcription.js';

const ROUTE = 'POST /v1/audio/transcriptions';

describe('OpenAITranscription', () => {
  let servers: RemoteServers;
  let folder: string;
  let path: string;
  const content = wavOf();

  beforeEach(async () => {
    servers = await startRemoteServers();
    folder = await mkdtemp(join(tmpdir(), 'enclave-test-'));
    path = join(folder, 'sound');
    await writeFile(path, content);
  });
  afterEach(async () => {
    await servers.close();
    await rm(folder, { recursive: true, force: true });
  });

  const model = (options?: OpenAITranscriptionOptions, apiKey = servers.settings['TRANSCRIPTION_API_KEY']!) =>
    new OpenAITranscription({ baseUrl: servers.url, apiKey, model: 'stub-speech' }, options);
  const transcribe = (of = model(), signal?: AbortSignal) =>
    of.transcribe({ path, fileName: 'recording.wav', mimeType: 'audio/wav' }, { signal });

  it('sends the file as it is, and gives the text', async () => {
    await expect(transcribe()).resolves.toEqual({
      text: 'Good morning.',
      format: 'plain',
      inputTokens: 0,
      outputTokens: 0,
    });
    expect(servers.lastForm).toMatchObject({
      fields: { model: 'stub-speech', response_format: 'verbose_json' },
      file: { field: 'file', name: 'recording.wav', type: 'audio/wav' },
    });
    expect(servers.lastForm?.file.content.equals(content)).toBe(true);
  });

  it('puts times between the paragraphs of a long recording', async () => {
    servers.speech = {
      text: 'unused',
      segments: [
        { start: 0, end: 4, text: ' Welcome.' },
        { start: 4.5, end: 9, text: ' Let us begin.' },
        { start: 13, end: 20, text: '# is said hash.' },
        { start: 3_725, end: 3_730, text: ' Thank you.' },
      ],
    };
    await expect(transcribe()).resolves.toMatchObject({
      format: 'markdown',
      text: '## [00:00:00]\n\nWelcome. Let us begin.\n\n\\# is said hash.\n\n## [01:02:05]\n\nThank you.',
    });
  });

  it('asks for another format where the model knows no times, and remembers it', async () => {
    servers.refusedFormats = ['verbose_json'];
    const newer = model();
    await expect(transcribe(newer)).resolves.toMatchObject({
      text: 'Good morning.',
      inputTokens: 40,
      outputTokens: 9,
    });
    await transcribe(newer);
    expect(servers.requests.get(ROUTE)).toBe(3);
    servers.refusedFormats = ['verbose_json', 'json'];
    await expect(transcribe(newer)).resolves.toMatchObject({ text: 'Good morning.' });
    servers.refusedFormats = ['verbose_json', 'json', 'text'];
    await expect(transcribe(newer)).rejects.toMatchObject({ code: 'model_rejected' });
  });

  it('tries again after a passing fault, with the whole file', async () => {
    servers.failNext({ status: 503 });
    await expect(transcribe()).resolves.toMatchObject({ text: 'Good morning.' });
    expect(servers.lastForm?.file.content.equals(content)).toBe(true);
  });

  it('does not repeat what was refused, and does not quote it', async () => {
    const error: unknown = await transcribe(model({}, 'sk-secret')).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'model_rejected',
      retryable: false,
      message: 'The transcription endpoint answered 401: its API key is missing or wrong.',
    });
    expect(`${(error as Error).stack} ${JSON.stringify(error)}`).not.toContain('sk-secret');
    expect(servers.requests.get(ROUTE)).toBe(1);
    servers.failNext({ status: 400, body: '{"error":"the file is damaged"}' });
    await expect(transcribe()).rejects.toMatchObject({ code: 'model_rejected', retryable: false });
  });

  it.each([
    ['a page of HTML', '<html><body>Welcome</body></html>'],
    ['another object', '{"error":"none"}'],
    ['a number', '7'],
    ['more than anybody says', `{"text":"${'a'.repeat(33 * 1024 * 1024)}"}`],
  ])('refuses %s', async (_, body) => {
    servers.failNext({ status: 200, body });
    await expect(transcribe()).rejects.toMatchObject({ code: 'model_rejected', retryable: false });
  });

  it.each(['headers', 'body'] as const)('times out when the %s never come', async hang => {
    servers.failNext({ hang });
    await expect(transcribe(model({ timeout: () => 200 }))).rejects.toMatchObject({
      code: 'model_timeout',
      retryable: true,
    });
    expect(servers.requests.get(ROUTE)).toBe(1);
  });

  it('ends when the caller gives up', async () => {
    const controller = new AbortController();
    servers.failNext({ hang: 'headers' });
    const call = transcribe(model(), controller.signal);
    await sleep(50);
    controller.abort(new Error('cancelled'));
    await expect(call).rejects.toThrow('cancelled');
    await expect(transcribe(model(), AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
  });

  it('says where nobody is there', async () => {
    const nobody = new OpenAITranscription(
      { baseUrl: 'http://127.0.0.1:9/v1', apiKey: '', model: 'm' },
      { maxRetries: 0 },
    );
    await expect(transcribe(nobody)).rejects.toMatchObject({ code: 'model_unavailable', retryable: true });
  });
});
