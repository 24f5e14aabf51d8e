import { Injectable, Logger } from '@nestjs/common';
import { CreditsService, type Spending } from '../../core/credits/credits.service.js';
import type { CreditLine } from '../../core/credits/price-list.js';
import {
  type ChatCompletion,
  type ChatMessage,
  type ChatModel,
  type ChatOptions,
  ModelError,
} from '../../core/models/model.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import type { AnswerUsage } from './answer-events.js';

export interface PaidChatOptions extends ChatOptions {
  maxTokens: number;
  /** Whether the answer is to come in one piece: a model that fails in the middle may be asked anew then. */
  whole: boolean;
}

/** A call of a chat model that is paid for. Whoever opens it reads the deltas to their end, or closes it. */
export interface PaidCall {
  /**
   * Asks the model. It pays for what the model counts; where it counts nothing, for what is estimated. An answer that ends in
   * the middle, because the model fails or whoever asked has gone, is paid for as far as it came; whoever goes before
   * anything came pays for the prompt.
   *
   * @returns the deltas as they come, and the whole with its tokens
   * @throws ModelError, or the signal's reason
   */
  deltas(): AsyncGenerator<string, ChatCompletion>;
  /** Gives back what was reserved, where the model was not asked. Does not fail. */
  close(): Promise<void>;
}

/** Tokens past the end that a model was given, estimated generously, before it is taken for one that does not stop. */
const MOST_PAST_END = 1_000;

/** Calls of chat models, each paid for by itself once its prompt is known. */
@Injectable()
export class PaidChatService {
  private readonly logger = new Logger(PaidChatService.name);

  constructor(
    private readonly credits: CreditsService,
    private readonly quotas: QuotasService,
    private readonly usage: UsageService,
  ) {}

  /**
   * Makes sure of a call, and that it can be paid for: reserves the longest answer.
   *
   * @param spent is added to, also where the call fails
   * @throws Problem 402, 429
   */
  async open(
    chat: ChatModel,
    messages: readonly ChatMessage[],
    options: PaidChatOptions,
    spent: AnswerUsage,
  ): Promise<PaidCall> {
    await this.quotas.requireLlmTokens();
    const promptTokens = messages.reduce((sum, { content }) => sum + estimateTokens(content), 0);
    const spending = await this.credits.begin({
      operation: 'chat',
      lines: tokenLines(chat.name, promptTokens, options.maxTokens),
    });
    const account = new Account(this.usage, spent, chat.name, promptTokens);
    const asked = { ...options, onModel: (name: string) => (account.model = name) };
    const start = () => (options.whole ? inOnePiece(chat, messages, asked) : chat.stream(messages, asked));
    return {
      deltas: () => this.deltas(start, spending, account, options),
      close: () => this.settleRest(spending, account),
    };
  }

  private async *deltas(
    start: () => AsyncGenerator<string, ChatCompletion>,
    spending: Spending,
    account: Account,
    options: PaidChatOptions,
  ): AsyncGenerator<string, ChatCompletion> {
    try {
      const completion = yield* this.counted(start(), account, options);
      return { ...completion, ...(await this.settle(spending, account, completion)) };
    } finally {
      await this.settleRest(spending, account);
    }
  }

  private async *counted(
    deltas: AsyncGenerator<string, ChatCompletion>,
    account: Account,
    { maxTokens, signal }: PaidChatOptions,
  ): AsyncGenerator<string, ChatCompletion> {
    account.asked = signal?.aborted !== true;
    try {
      for (let next = await deltas.next(); ; next = await deltas.next()) {
        signal?.throwIfAborted();
        if (next.done) return next.value;
        account.add(next.value);
        if (account.completionTokens > 2 * maxTokens + MOST_PAST_END)
          throw new ModelError(
            'model_rejected',
            'The chat model went on past the end that it was given.',
            false,
          );
        yield next.value;
      }
    } catch (error) {
      account.failed = error instanceof ModelError;
      throw error;
    } finally {
      // Closed by whoever reads: the model is asked no further.
      await deltas.return(undefined as never);
    }
  }

  private async settle(
    spending: Spending,
    account: Account,
    completion: ChatCompletion | null,
  ): Promise<Pick<ChatCompletion, 'promptTokens' | 'completionTokens'>> {
    account.settled = true;
    const tokens = account.settle(completion);
    spending.used(
      ...tokenLines(completion?.model ?? account.model, tokens.promptTokens, tokens.completionTokens),
    );
    account.spent.credits += await spending.commit();
    await this.quotas.countLlmTokens(tokens.promptTokens + tokens.completionTokens);
    return tokens;
  }

  private async settleRest(spending: Spending, account: Account): Promise<void> {
    if (account.settled) return;
    if (account.completionTokens === 0 && (account.failed || !account.asked)) {
      account.settled = true;
      return spending.release('the model gave no answer');
    }
    try {
      await this.settle(spending, account, null);
    } catch (error) {
      this.logger.warn(`What a model had said was not paid for: ${(error as Error).message}`);
      await spending.release('the answer ended in the middle');
    }
  }
}

/** What one call has used so far, as it is noted of the request: who asked may be gone before it is known exactly. */
class Account {
  settled = false;
  /** Whether the model was given the prompt, and whether it failed then. */
  asked = false;
  failed = false;
  completionTokens = 0;
  #begun = false;
  #noted = 0;

  constructor(
    private readonly usage: UsageService,
    readonly spent: AnswerUsage,
    /** The one that is asked first, until another one answers. */
    public model: string,
    private readonly promptTokens: number,
  ) {}

  add(delta: string): void {
    if (!this.#begun && delta !== '') {
      this.#begun = true;
      this.usage.note({ model: this.model, inputTokens: this.promptTokens });
    }
    this.completionTokens += Buffer.byteLength(delta) / 4;
    const whole = Math.ceil(this.completionTokens);
    this.usage.note({ outputTokens: whole - this.#noted });
    this.#noted = whole;
  }

  /** @param completion null where the answer ended before its end */
  settle(completion: ChatCompletion | null): { promptTokens: number; completionTokens: number } {
    const promptTokens = counted(completion?.promptTokens, this.promptTokens);
    const completionTokens = counted(completion?.completionTokens, Math.ceil(this.completionTokens));
    const noted = this.#begun ? this.promptTokens : 0;
    this.usage.note({
      model: completion?.model ?? this.model,
      inputTokens: promptTokens - noted,
      outputTokens: completionTokens - this.#noted,
    });
    this.spent.promptTokens += promptTokens;
    this.spent.completionTokens += completionTokens;
    return { promptTokens, completionTokens };
  }
}

async function* inOnePiece(
  chat: ChatModel,
  messages: readonly ChatMessage[],
  options: ChatOptions,
): AsyncGenerator<string, ChatCompletion> {
  const completion = await chat.complete(messages, options);
  yield completion.text;
  return completion;
}

export const tokenLines = (model: string, input: number, output: number): CreditLine[] => [
  { operation: 'input_tokens', model, quantity: input },
  { operation: 'output_tokens', model, quantity: output },
];

/** A model server may count nothing, or nonsense. */
export const counted = (tokens: number | undefined, estimate: number): number =>
  tokens !== undefined && Number.isSafeInteger(tokens) && tokens > 0 ? tokens : estimate;
