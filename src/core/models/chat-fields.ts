import type { BaseCallbackHandler } from '@langchain/core/callbacks/base';
import type { ChatOptions } from './model.js';

/** What a request says of the answer that it wants; the rest of the client is the same for all of them. */
export interface ChatFields extends Pick<ChatOptions, 'temperature' | 'maxTokens' | 'json'> {
  /** Ends the requests of libraries that know of no signal. */
  until: AbortSignal | undefined;
  callbacks?: BaseCallbackHandler[];
}
