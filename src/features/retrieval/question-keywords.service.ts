import { Injectable, Logger } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { CreditsService } from '../../core/credits/credits.service.js';
import type { CreditLine } from '../../core/credits/price-list.js';
import { type ChatModel, ModelError } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import type { EffectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { Problem } from '../../foundation/http/problem.js';
import { KEYWORD_TOKENS, type QuestionKeywords, keywordsPrompt, readKeywords } from './question-keywords.js';

/** Of all keywords that are remembered. */
const MOST_BYTES = 8 * 1024 * 1024;
/** Of an entry beside its texts. */
const ENTRY_BYTES = 300;

/** Keywords, and micro-credits that they cost. */
export interface PaidKeywords {
  keywords: QuestionKeywords | null;
  credits: number;
}

/**
 * The keywords of questions, each made once for a tenant, a model and a text. Nobody gets another tenant's, not even where
 * both ask the same model the same.
 */
@Injectable()
export class QuestionKeywordsService {
  private readonly logger = new Logger(QuestionKeywordsService.name);
  private readonly known = new LRUCache<string, { keywords: QuestionKeywords }>({
    maxSize: MOST_BYTES,
    sizeCalculation: ({ keywords }) => 2 * JSON.stringify(keywords).length + ENTRY_BYTES,
  });

  constructor(
    private readonly context: TenantContext,
    private readonly models: ModelsService,
    private readonly credits: CreditsService,
    private readonly quotas: QuotasService,
    private readonly usage: UsageService,
  ) {}

  /**
   * Of the chat model that a knowledge base's graph is made by; pays for itself. Where there is no such model, or it fails,
   * the words of the question have to do.
   *
   * @throws Problem 402, 429 · the signal's reason
   */
  async of(
    question: string,
    { graph_model, llm_model }: Pick<EffectiveConfig, 'graph_model' | 'llm_model'>,
    signal: AbortSignal,
  ): Promise<PaidKeywords> {
    const choice = graph_model ?? llm_model;
    try {
      const chat = await this.models.chat(choice);
      if (!chat) return NONE;
      const key = this.keyOf(chat, question);
      const known = this.known.get(key);
      if (known) return { ...known, credits: 0 };
      const asked = await this.ask(chat, question, signal);
      // What cannot be read is asked for again: it may have been bad luck.
      if (asked.keywords) this.known.set(key, { keywords: asked.keywords });
      return asked;
    } catch (error) {
      signal.throwIfAborted();
      const isGone = error instanceof Problem && error.code === 'unknown_model';
      if (!isGone && !(error instanceof ModelError)) throw error;
      this.logger.warn({ msg: 'A question is looked up by its words', model: choice, code: error.code });
      return NONE;
    }
  }

  private async ask(chat: ChatModel, question: string, signal: AbortSignal): Promise<PaidKeywords> {
    const prompt = keywordsPrompt(question);
    const promptTokens = prompt.reduce((sum, { content }) => sum + estimateTokens(content), 0);
    await this.quotas.requireLlmTokens();
    const { result, credits } = await this.credits.spend(
      { operation: 'keywords', lines: linesOf(chat.name, promptTokens, KEYWORD_TOKENS) },
      async meter => {
        const options = { temperature: 0, maxTokens: KEYWORD_TOKENS, json: true, signal };
        const { text, model, ...tokens } = await chat.complete(prompt, options);
        const input = counted(tokens.promptTokens, promptTokens);
        const output = counted(tokens.completionTokens, estimateTokens(text));
        meter.used(...linesOf(model, input, output));
        this.usage.note({ model, inputTokens: input, outputTokens: output });
        return { text, tokens: input + output };
      },
    );
    await this.quotas.countLlmTokens(result.tokens);
    const keywords = readKeywords(result.text);
    if (!keywords) this.logger.warn({ msg: 'A model gave no keywords of a question', model: chat.name });
    return { keywords, credits };
  }

  private keyOf(chat: ChatModel, question: string): string {
    const hash = createHash('sha256').update(question).digest('base64');
    return `${this.context.tenant.id} ${hash} ${chat.name}`;
  }
}

const NONE: PaidKeywords = { keywords: null, credits: 0 };

/** A model server may count nothing, or nonsense. */
const counted = (tokens: number, estimate: number): number =>
  Number.isSafeInteger(tokens) && tokens > 0 ? tokens : estimate;

const linesOf = (model: string, input: number, output: number): CreditLine[] => [
  { operation: 'input_tokens', model, quantity: input },
  { operation: 'output_tokens', model, quantity: output },
];
