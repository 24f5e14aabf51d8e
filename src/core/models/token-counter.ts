import { BaseCallbackHandler } from '@langchain/core/callbacks/base';
import type { AIMessage } from '@langchain/core/messages';
import type { ChatGeneration, LLMResult } from '@langchain/core/outputs';

/** Tells the tokens of each call of a langchain model. In a file of its own, so that langchain is loaded with the first call. */
export function tokenCounter(onTokens: (tokens: number) => void): BaseCallbackHandler {
  return BaseCallbackHandler.fromMethods({
    handleLLMEnd({ generations }: LLMResult) {
      for (const generation of generations.flat()) {
        const message = (generation as ChatGeneration).message as AIMessage | undefined;
        const usage = message?.usage_metadata;
        if (usage) onTokens(usage.input_tokens + usage.output_tokens);
      }
    },
  });
}
