import type { ModelEndpoint } from '../../foundation/config/env.js';
import { EndpointProbe } from './endpoint-probe.js';
import { LangchainChat } from './langchain-chat.js';
import { ModelTransport } from './model-transport.js';

export interface OpenAIChatOptions {
  /** Milliseconds of one attempt [300,000]. */
  timeout?: number;
  /** Attempts after the first that failed for a passing reason. */
  maxRetries?: number;
}

/** The chat model that the settings name, behind `POST {baseUrl}/chat/completions` of any OpenAI-compatible server. */
export class OpenAIChat extends LangchainChat {
  readonly #probe: EndpointProbe;

  /** @param kind as what it is named in errors */
  constructor(settings: ModelEndpoint, options: OpenAIChatOptions = {}, kind: 'chat' | 'vision' = 'chat') {
    const { timeout, maxRetries } = options;
    const limits = timeout === undefined ? {} : { whole: timeout };
    const transport = new ModelTransport(`The ${kind} endpoint`, { limits, maxRetries });
    super(
      {
        provider: 'openai_compatible',
        modelName: settings.model,
        apiBase: settings.baseUrl,
        apiKey: settings.apiKey,
        contextTokens: null,
        dimensions: null,
        settings: {},
      },
      transport,
    );
    this.#probe = new EndpointProbe(settings, transport);
  }

  isUp(): Promise<boolean> {
    return this.#probe.isUp();
  }
}
