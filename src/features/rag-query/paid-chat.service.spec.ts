import { beforeEach, describe, expect, it } from 'vitest';
import type { CreditLine } from '../../core/credits/price-list.js';
import {
  type ChatCompletion,
  type ChatModel,
  type ChatOptions,
  ModelError,
} from '../../core/models/model.js';
import { PaidChatService } from './paid-chat.service.js';

let ledger: Array<[what: 'begin' | 'commit' | 'release', lines: readonly CreditLine[]]>;
let noted: Array<{ model?: string }>;
let counted: number;
const spent = () => ({ promptTokens: 0, completionTokens: 0, credits: 0 });

beforeEach(() => {
  [ledger, noted, counted] = [[], [], 0];
});

const credits = {
  begin: async ({ lines }: { lines: CreditLine[] }) => {
    const used: CreditLine[] = [];
    ledger.push(['begin', lines]);
    return {
      used: (...more: CreditLine[]) => used.push(...more),
      commit: async () => {
        ledger.push(['commit', used]);
        return 7;
      },
      release: async () => void ledger.push(['release', []]),
    };
  },
};
const quotas = {
  requireLlmTokens: async () => undefined,
  countLlmTokens: async (tokens: number) => void (counted += tokens),
};
const messages = [{ role: 'user' as const, content: 'How long is the warranty on frames?' }];

/** Of a model that does this when it is asked, in one piece or several. */
function open(answer: (options: ChatOptions) => AsyncGenerator<string, ChatCompletion>, options = {}) {
  const chat = {
    name: 'wanted',
    stream: (_: unknown, asked: ChatOptions) => answer(asked),
    complete: async (_: unknown, asked: ChatOptions) => (await answer(asked).next()).value,
  } as unknown as ChatModel;
  const service = new PaidChatService(
    credits as never,
    quotas as never,
    { note: (note: object) => void noted.push(note) } as never,
  );
  return service.open(chat, messages, { maxTokens: 100, whole: false, ...options }, spent());
}

/** Waits until whoever asked leaves. */
async function* silent({ signal }: ChatOptions): AsyncGenerator<string, ChatCompletion> {
  yield* [];
  await new Promise<never>((_, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason as Error));
  });
  throw new Error('never');
}

describe('a call that is left before anything came', () => {
  it.each([true, false])(
    'is paid for and counts as far as it is known: the prompt (in one piece: %s)',
    async whole => {
      const controller = new AbortController();
      const call = await open(silent, { whole, signal: controller.signal });
      const first = call.deltas().next();
      setTimeout(() => controller.abort(new Error('gone')), 10);
      await expect(first).rejects.toThrow('gone');
      await call.close();
      expect(ledger.map(([what]) => what)).toEqual(['begin', 'commit']);
      const [input, output] = ledger[1]![1];
      expect(input).toMatchObject({ model: 'wanted', quantity: expect.any(Number) });
      expect(input?.quantity).toBeGreaterThan(0);
      expect(output?.quantity).toBe(0);
      expect(counted).toBe(input?.quantity);
    },
  );

  it.each<[string, (call: Awaited<ReturnType<typeof open>>) => Promise<unknown>]>([
    ['was never asked', async () => undefined],
    ['is left before it is asked', async call => call.deltas().return(undefined as never)],
  ])('costs nothing where the model %s', async (_, leave) => {
    const call = await open(silent);
    await leave(call);
    await call.close();
    expect(ledger.map(([what]) => what)).toEqual(['begin', 'release']);
    expect(counted).toBe(0);
  });

  it('costs nothing where the model has failed', async () => {
    const call = await open(async function* () {
      yield* [];
      throw new ModelError('model_unavailable', 'It is down.', true);
    });
    await expect(call.deltas().next()).rejects.toThrow('It is down.');
    expect(ledger.map(([what]) => what)).toEqual(['begin', 'release']);
    expect(counted).toBe(0);
  });
});

describe('a streamed answer of another model than was asked first', () => {
  it('that breaks off is paid for as what it is', async () => {
    const call = await open(async function* ({ onModel }) {
      onModel?.('fallback');
      yield 'Ten years';
      throw new ModelError('model_unavailable', 'It broke off.', true);
    });
    const deltas = call.deltas();
    await deltas.next();
    await expect(deltas.next()).rejects.toThrow('It broke off.');
    expect(ledger[1]).toMatchObject(['commit', [{ model: 'fallback' }, { model: 'fallback', quantity: 3 }]]);
    expect(noted.filter(({ model }) => model === 'wanted')).toEqual([]);
  });
});
