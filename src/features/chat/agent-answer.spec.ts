import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import type { CreditLine } from '../../core/credits/price-list.js';
import { FallbackChat } from '../../core/models/fallback-chat.js';
import { LangchainChat } from '../../core/models/langchain-chat.js';
import { type Door, ModelTransport, type TransportOptions } from '../../core/models/model-transport.js';
import type { Agent } from '../agents/agent.js';
import type { Answer } from '../rag-query/answer-events.js';
import { AgentAnswer } from './agent-answer.js';
import { AgentEvidence } from './agent-evidence.js';
import { runAgent } from './agent-run.js';

let first: ModelServer;
let second: ModelServer;
/** What was reserved, paid and given back, in order; what was noted, and counted. */
let ledger: Array<[what: 'begin' | 'commit' | 'release', lines: readonly CreditLine[]]>;
let noted: Array<{ model?: string }>;
let counted: number;
/** Micro-credits for one of each. */
let prices: Record<string, number>;

beforeEach(async () => {
  [first, second] = await Promise.all([startModelServer(), startModelServer()]);
  [ledger, noted, counted, prices] = [[], [], 0, {}];
});
afterEach(() => Promise.all([first.close(), second.close()]));

const costOf = (lines: readonly CreditLine[]) =>
  lines.reduce(
    (sum, { operation, model, quantity }) => sum + (prices[model ?? operation] ?? 0) * quantity,
    0,
  );

const credits = {
  priceOf: async (lines: CreditLine[]) => costOf(lines),
  begin: async ({ lines }: { lines: CreditLine[] }) => {
    const used: CreditLine[] = [];
    ledger.push(['begin', lines]);
    return {
      used: (...more: CreditLine[]) => used.push(...more),
      commit: async () => {
        ledger.push(['commit', used]);
        return costOf(used);
      },
      release: async () => void ledger.push(['release', []]),
    };
  },
  async spend(estimate: { lines: CreditLine[] }, work: (meter: object) => Promise<unknown>) {
    return { result: await work({ used: () => undefined }), credits: costOf(estimate.lines) };
  },
};

const passage = {
  chunk_id: 'c1',
  document_id: 'd1',
  document_title: 'Warranty',
  kb_id: 'kb',
  heading: null,
  page: null,
  text: 'Frames carry a warranty of ten years.',
  score: 1,
  cosine: null,
  matched: ['warranti', 'frame'],
};
const result = {
  passages: [passage],
  terms: [
    { lexeme: 'warranti', document_frequency: 1, idf: 1 },
    { lexeme: 'frame', document_frequency: 1, idf: 1 },
  ],
  chunk_count: 1,
};
const retrieval = {
  costLines: async () => [{ operation: 'query', quantity: 1 }],
  lexemes: async (_tx: null, _kb: string, texts: string[]) =>
    texts.map(text => (text.includes('warranty') ? ['frame', 'carri', 'warranti', 'ten', 'year'] : ['goe'])),
  async search(
    _kb: string,
    _fields: object,
    _signal: AbortSignal,
    extend: (tx: null, found: object) => unknown,
  ) {
    return {
      retrieved: { lines: [], credits: 0 },
      extended: await extend(null, { result, models: new Map() }),
    };
  },
};

const modelOf = (name: string, server: ModelServer, options: TransportOptions = {}) =>
  new LangchainChat(
    {
      provider: 'openai_compatible',
      modelName: name,
      apiBase: server.url,
      apiKey: '',
      contextTokens: null,
      dimensions: null,
      settings: {},
    },
    new ModelTransport('The chat model', { maxRetries: 0, ...options }),
  );
const both = () => new FallbackChat([modelOf('first', first), modelOf('second', second)]);

async function run(
  chat: LangchainChat | FallbackChat,
  { most = null, signal = new AbortController().signal }: { most?: number | null; signal?: AbortSignal } = {},
): Promise<Answer> {
  const models = await chat.langchain({ maxTokens: 100, signal });
  const evidence = new AgentEvidence(6_000, []);
  const answer = new AgentAnswer(
    {
      retrieval: retrieval as never,
      credits: credits as never,
      quotas: {
        requireLlmTokens: async () => undefined,
        countLlmTokens: async (tokens: number) => void (counted += tokens),
      } as never,
      usage: { note: (note: object) => void noted.push(note) } as never,
    },
    {
      kbId: 'kb',
      agent: { toolConfig: { max_steps: 4, top_k: 5, max_credits: most } } as Agent,
      models,
      rerank: null,
      evidence,
      maxTokens: 100,
      search: {} as never,
      signal,
      tell: () => undefined,
    },
  );
  const model = models[0]!.model;
  const question = 'How long is the warranty?';
  const tools = ['hybrid_search'] as const;
  await runAgent(
    { model, tools, maxSteps: 4, systemPrompt: 'Search.', history: [], question, signal },
    answer,
  );
  return answer.answer;
}

const search = { toolCalls: [{ name: 'hybrid_search', args: { query: 'warranty on frames' } }] };
const modelsOf = (what: string) =>
  ledger.filter(([kind]) => kind === what).map(([, lines]) => lines[0]?.model ?? null);

describe('the model that answers', () => {
  it('is the next where the first call of the one that was wanted fails, and it is its price that counts', async () => {
    first.failNext({ status: 503 });
    second.next(search, { text: 'Ten years. [1]' });
    expect(await run(both())).toMatchObject({ model: 'second', answered: true, answer: 'Ten years. [1]' });
    expect(modelsOf('begin')).toEqual(['first', 'second', 'second']);
    expect(modelsOf('commit')).toEqual(['second', 'second']);
    expect(noted.map(({ model }) => model)).toEqual(['second', 'second']);
    expect(first.requests.chat).toBe(1);
  });

  it('is not asked where it is known to fail', async () => {
    const chat = new FallbackChat([modelOf('first', first, { breakAfter: 1 }), modelOf('second', second)]);
    first.failNext({ status: 503 });
    await chat.complete([{ role: 'user', content: 'Hi' }], {});
    second.next(search, { text: 'Ten years. [1]' });
    expect((await run(chat)).model).toBe('second');
    expect(modelsOf('begin')).toEqual(['second', 'second']);
  });

  it('stays the same once it has answered', async () => {
    first.next(search, { status: 503 });
    await expect(run(both())).rejects.toMatchObject({ code: 'model_unavailable' });
    expect(second.requests.chat).toBe(0);
  });

  it('is not another where it refuses: that does not pass', async () => {
    first.failNext({ status: 401 });
    await expect(run(both())).rejects.toMatchObject({ code: 'model_rejected' });
    expect(second.requests.chat).toBe(0);
  });

  it('failed as the first one did, where all do', async () => {
    first.failNext({ status: 503 });
    second.failNext({ status: 500 });
    await expect(run(both())).rejects.toMatchObject({ message: 'The chat model answered 503.' });
    expect(ledger.filter(([what]) => what === 'release')).toHaveLength(2);
  });
});

describe('a model that goes on writing arguments', () => {
  it('is given up soon', async () => {
    const door: Door = () =>
      Promise.resolve({
        status: 200,
        headers: { 'content-type': 'text/event-stream' },
        body: (async function* () {
          for (let n = 0; ; n++) {
            const args = n === 0 ? '{"query": "' : 'x'.repeat(50);
            const call = {
              index: 0,
              id: 'call',
              type: 'function',
              function: { name: 'hybrid_search', arguments: args },
            };
            const chunk = {
              id: 'x',
              object: 'chat.completion.chunk',
              choices: [{ index: 0, delta: { tool_calls: [call] } }],
            };
            yield Buffer.from(`data: ${JSON.stringify(chunk)}\n\n`);
          }
        })(),
        close: () => undefined,
      });
    const started = performance.now();
    await expect(run(modelOf('hostile', first, { door }))).rejects.toMatchObject({
      code: 'model_rejected',
      message: 'The chat model gave an answer that does not end.',
    });
    expect(performance.now() - started).toBeLessThan(4_000);
    // What came is paid for.
    expect(modelsOf('commit')).toEqual(['hostile']);
  });
});

describe('a model that is left before it said anything', () => {
  it('had the prompt, which is paid for and counts', async () => {
    const controller = new AbortController();
    first.next({ hang: 'headers' });
    const answer = run(modelOf('first', first), { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('gone')), 300);
    await expect(answer).rejects.toThrow('gone');
    expect(modelsOf('commit')).toEqual(['first']);
    const [, [input, output]] = ledger.at(-1) as [string, CreditLine[]];
    expect(input?.quantity).toBeGreaterThan(100);
    expect(output?.quantity).toBe(0);
    expect(counted).toBe(input?.quantity);
  });
});

describe('what one answer may cost', () => {
  it('covers the answer to what a search finds: else it does not search', async () => {
    prices = { query: 500, first: 1 };
    first.respond = (_, chat) => (chat.body.tool_choice === 'none' ? 'I cannot look.' : search);
    const answer = await run(modelOf('first', first), { most: 1_200 });
    expect(answer.usage.credits).toBeLessThanOrEqual(1_200);
    expect(answer.passages).toEqual([]);
  });

  it('ends with quotes of what was found, where a last call is more than is left', async () => {
    prices = { query: 10, first: 1 };
    // More than was guessed of what would be found.
    result.passages = [{ ...passage, text: `${passage.text} ${'And so it goes on and on. '.repeat(400)}` }];
    try {
      first.next(search, { text: 'Ten years. [1]' });
      await run(modelOf('first', first));
      const [, [, paid], [, reserved]] = ledger as [unknown, [string, CreditLine[]], [string, CreditLine[]]];
      const most = costOf(paid) + prices['query']! + costOf(reserved) - 1;
      const before = first.requests.chat;
      first.next(search, { text: 'Never asked.' });
      const answer = await run(modelOf('first', first), { most });
      expect(answer).toMatchObject({
        answered: true,
        model: 'extractive',
        answer: expect.stringContaining('Frames carry a warranty of ten years. [1]'),
        citations: [{ index: 1, chunk_id: 'c1' }],
      });
      expect(answer.usage.credits).toBeLessThanOrEqual(most);
      expect(first.requests.chat).toBe(before + 1);
    } finally {
      result.passages = [passage];
    }
  });

  it('is refused where it cannot even begin', async () => {
    prices = { first: 1_000 };
    await expect(run(modelOf('first', first), { most: 10 })).rejects.toMatchObject({
      status: 402,
      code: 'agent_credits_exceeded',
    });
    expect(ledger).toEqual([]);
  });
});
