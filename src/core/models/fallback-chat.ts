import type { LangchainChat } from './langchain-chat.js';
import {
  type ChatCompletion,
  type ChatMessage,
  type ChatModel,
  type ChatOptions,
  type LangchainModel,
  ModelError,
} from './model.js';

/**
 * Several chat models, of which the next is asked where one fails for a passing reason. Whatever was given of an answer is
 * of one model alone.
 */
export class FallbackChat implements ChatModel {
  readonly name: string;
  /** What fits into each of them: nobody knows before which one answers. */
  readonly contextTokens: number;

  /** @param models at least one, in their order */
  constructor(private readonly models: readonly LangchainChat[]) {
    this.name = (models[0] as LangchainChat).name;
    this.contextTokens = Math.min(...models.map(model => model.contextTokens));
  }

  complete(messages: readonly ChatMessage[], options: ChatOptions): Promise<ChatCompletion> {
    return this.#firstOf(options, model => model.complete(messages, options));
  }

  async *stream(
    messages: readonly ChatMessage[],
    options: ChatOptions,
  ): AsyncGenerator<string, ChatCompletion> {
    const { answer, begun } = await this.#firstOf(options, async model => {
      const stream = model.stream(messages, options);
      return { answer: stream, begun: await stream.next() };
    });
    if (begun.done) return begun.value;
    try {
      yield begun.value;
      return yield* answer;
    } finally {
      // Closed before `yield*` was reached, it would not hear of it.
      await answer.return(undefined as never);
    }
  }

  async langchain(options: ChatOptions): Promise<LangchainModel[]> {
    const order = this.models.toSorted((a, b) => Number(a.transport.resting) - Number(b.transport.resting));
    return (await Promise.all(order.map(model => model.langchain(options)))).flat();
  }

  async #firstOf<T>({ signal }: ChatOptions, ask: (model: LangchainChat) => Promise<T>): Promise<T> {
    let fault: unknown;
    for (const model of this.models) {
      signal?.throwIfAborted();
      try {
        return await ask(model);
      } catch (error) {
        if (!(error instanceof ModelError) || !error.retryable) throw error;
        // What is told is why the one that was wanted failed.
        fault ??= error;
      }
    }
    throw fault;
  }
}
