import { OpenAIEmbeddings } from '@langchain/openai';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { ModelError } from './model.js';

type Request = Parameters<OpenAIEmbeddings['embeddingWithRetry']>[0];
type Response = Awaited<ReturnType<OpenAIEmbeddings['embeddingWithRetry']>>;

/**
 * Langchain's client, which takes the first vectors of an answer as they come, with the check that there is
 * exactly one for every text. In a file of its own so that langchain is loaded with the first call only.
 */
export class OpenAIEmbeddingClient extends OpenAIEmbeddings {
  /** Is told the tokens of each request: as the server counts them, and else as they are estimated. */
  onTokens: ((tokens: number) => void) | undefined;

  protected override async embeddingWithRetry(request: Request): Promise<Response> {
    const response = await super.embeddingWithRetry(request);
    const expected = Array.isArray(request.input) ? request.input.length : 1;
    // A server that is not one may answer 200 with a page of HTML.
    const received: unknown = response?.data;
    if (!Array.isArray(received) || received.length !== expected) {
      const count = Array.isArray(received) ? received.length : 'no';
      throw new ModelError(
        'model_rejected',
        `The embedding endpoint gave ${count} vectors for ${expected} texts.`,
        false,
      );
    }
    response.data.sort((a, b) => a.index - b.index);
    const counted: unknown = response.usage?.total_tokens;
    this.onTokens?.(typeof counted === 'number' && counted > 0 ? counted : estimated(request.input));
    return response;
  }
}

const estimated = (input: Request['input']): number =>
  [input].flat().reduce<number>((sum, text) => sum + estimateTokens(String(text)), 0);
