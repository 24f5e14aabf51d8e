import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UsageError, parseCommand } from '../../src/cli-commands.js';
import { Problem } from '../../src/foundation/http/problem.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, startTestApplication } from '../setup/application.js';
import { SERVER } from '../setup/database.js';

let app: TestApplication;
let folder: string;
let token: string;
let questions: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'enclave-test-'));
  app = await startTestApplication();
  await app.createTenant('acme');
  await app.addText('acme', 'Frames carry a warranty of ten years.', { title: 'Warranty' });
  await app.addText('acme', 'Chains are oiled once a month.', { title: 'Care' });
  const scopes = ['kb:read', 'kb:update', 'query:run'];
  token = (await issueToken(app, app.admin, 'acme', { scopes, rate_limit_per_minute: 10_000 })).secret;
  questions = file(
    'questions.jsonl',
    [
      {
        question: 'How long is the warranty on frames?',
        relevant: [{ title: 'Warranty' }],
        answers: ['ten years'],
      },
      { question: 'How often are chains oiled?', relevant: [{ title: 'Care' }] },
      { question: 'Who won the cup in 1950?', answerable: false },
    ]
      .map(question => JSON.stringify(question))
      .join('\n'),
  );
});
afterAll(async () => {
  await app?.close();
  rmSync(folder, { recursive: true });
});

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** As a process of its own would, and what it says. */
async function run(...options: string[]) {
  const command = parseCommand(['eval', '--tenant=acme', '--kb=docs', ...options]);
  const results: string[] = [];
  const notes: string[] = [];
  const output = {
    result: (line: string) => results.push(line),
    note: (line: string) => notes.push(line),
  };
  return { code: await command(app.env, output), results, notes };
}

const overHttp = () => [`--url=${app.application.url}`, '--token', token];

const faultOf = async (...options: string[]): Promise<Problem> => {
  const fault = await run(...options).catch((error: unknown) => error);
  expect(fault).toBeInstanceOf(Problem);
  return fault as Problem;
};

/** The first words of a line of the table, and the figures after them. */
const rowOf = (line: string) => line.split(/ {2,}/);

describe('enclave eval', () => {
  it('prints the figures, with those of before beside them', async () => {
    const asked = ['--questions', questions, ...overHttp()];
    const first = await run(...asked, '--mode=hybrid,keyword', '--set=top_k=3', '--name=Before');
    expect(first).toMatchObject({ code: 0, notes: [] });
    expect(first.results.map(line => rowOf(line)[0])).toEqual(['', 'Before · hybrid', 'Before · keyword']);
    const [titles, hybrid] = first.results.map(rowOf) as [string[], string[]];
    const figure = (title: string) => hybrid[titles.indexOf(title)];
    expect(figure('nDCG@10')).toBe('1.000');
    expect(figure('right cited')).toBe('1.000');
    expect(figure('answered')).toBe('1.000');
    expect(figure('failed')).toBe('0');

    const second = await run(...asked, '--search-only', '--name=After');
    expect(second.results.map(line => rowOf(line)[0])).toEqual([
      '',
      'After · default',
      'Before · hybrid',
      'Before · keyword',
    ]);
    const alone = await run(...asked, '--search-only', '--earlier=0', '--name=Alone');
    expect(alone.results.map(line => rowOf(line)[0])).toEqual(['', 'Alone']);
  });

  it('prints JSON', async () => {
    const { code, results } = await run(
      '--questions',
      questions,
      '--json',
      '--set=answer=false',
      ...overHttp(),
    );
    expect(code).toBe(0);
    const { evaluation, earlier } = JSON.parse(results.join('\n'));
    expect(evaluation).toMatchObject({ status: 'done', question_count: 3, figures: [{ judged: 2 }] });
    expect(earlier.length).toBeLessThanOrEqual(3);
  });

  it('reads CSV', async () => {
    const path = file('questions.csv', 'question,title\nHow long is the warranty on frames?,Warranty\n');
    const { code, results } = await run('--questions', path, '--search-only', ...overHttp());
    expect(code).toBe(0);
    expect(rowOf(results[1] as string)).toContain('1.000');
  });

  it('ends with 1 where a question could not be asked', async () => {
    // The knowledge base has no graph.
    const { code, results } = await run('--questions', questions, '--mode=local', ...overHttp());
    expect(code).toBe(1);
    expect(rowOf(results[1] as string).at(-1)).toBe('3');
  });

  it('says what is wrong, before anything is asked', async () => {
    const bad = file('bad.jsonl', '{"question": "a"}\n{"question": \n');
    const fault = await faultOf('--questions', bad, ...overHttp());
    expect(fault.options.errors?.[0]?.path).toBe('line 2');
    const field = await faultOf('--questions', questions, '--set=top_k=0', ...overHttp());
    expect(field.options.errors?.[0]?.path).toBe('variants.0.top_k');
    const mode = await faultOf('--questions', questions, '--mode=hybrid,psychic', ...overHttp());
    expect(mode.options.errors?.[0]?.path).toBe('variants.1.mode');
    const kb = await faultOf('--questions', questions, '--kb=none', ...overHttp());
    expect(kb.detail).toContain('has no knowledge base "none"');
    const stranger = ['--questions', questions, `--url=${app.application.url}`, '--token=rk_live_nothing'];
    expect((await faultOf(...stranger)).status).toBe(401);
    const { body } = await app.admin.get('/tenants/acme/kbs/docs/evaluations?status=queued');
    expect(body.total).toBe(0);
  });

  it.each([
    [[], 'needs --tenant, --kb and --questions'],
    [['--questions=x', '--set=top_k'], '--set is FIELD=VALUE'],
    [['--questions=x', '--mode=a,,b'], '--mode is one mode'],
    [['--questions=x', '--earlier=many'], '--earlier is a whole number'],
    [['--questions=x', '--token=y'], '--token is for --url'],
    [['--questions=x', '--frobnicate'], 'frobnicate'],
  ])('refuses %j', (options, message) => {
    const parse = () => parseCommand(['eval', '--tenant=acme', '--kb=docs', ...options]);
    expect(parse).toThrow(UsageError);
    expect(parse).toThrow(message);
  });

  it('says that a file cannot be read', async () => {
    await expect(run('--questions', join(folder, 'none.jsonl'), ...overHttp())).rejects.toThrow(UsageError);
  });

  // On the embedded database it would have to wait for the server to stop.
  it.runIf(SERVER)('works on the database itself', async () => {
    const { code, results } = await run('--questions', questions, '--name=Here', '--earlier=0');
    expect(code).toBe(0);
    expect(rowOf(results[1] as string)[0]).toBe('Here');
    const { body } = await app.admin.get('/tenants/acme/kbs/docs/evaluations?search=Here');
    expect(body.items).toMatchObject([{ created_by: null, token_id: null, status: 'done' }]);
  });
});
