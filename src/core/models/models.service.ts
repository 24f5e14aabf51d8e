import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { Problem } from '../../foundation/http/problem.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { BundledEmbedding } from './bundled-embedding.js';
import { FallbackChat } from './fallback-chat.js';
import { INSTALLATION_EMBEDDING, type InstallationEmbedding } from './installation-embedding.js';
import type { LangchainChat } from './langchain-chat.js';
import { LocalEmbedding } from './local-embedding.js';
import {
  type ChatModel,
  type EmbeddingModel,
  ModelError,
  type RerankModel,
  type TranscriptionModel,
  type VisionModel,
} from './model.js';
import { type Catalogue, ModelCatalogue, type UsableEntry } from './model-catalogue.service.js';
import type { ModelClient } from './model-client.js';
import { ModelClients } from './model-clients.service.js';
import type { ModelType } from './model-provider.js';
import { OpenAIChat } from './openai-chat.js';
import { OpenAITranscription } from './transcription.js';
import { OpenAIVision } from './vision.js';

export interface ModelsHealth {
  embedding: 'up' | 'down';
  chat: 'up' | 'down' | 'none';
}

/** Milliseconds for which an answer of `health` stands. */
const HEALTH_VALID_FOR = 30_000;

/**
 * The models of the context's tenant: what it chose among its own and the platform's entries, else what the platform has
 * chosen for it, and in the end those that the installation's settings name. Answers come from memory as a rule; the first
 * one may ask the database, so nothing here may be called inside of a transaction.
 */
@Injectable()
export class ModelsService implements OnApplicationShutdown {
  private readonly logger = new Logger('models');
  readonly #chat: OpenAIChat | null;
  readonly #installation: string;
  readonly #vision: OpenAIVision | null;
  readonly #transcription: OpenAITranscription | null;
  /** Where the settings name another, and a tenant wants this one. */
  #bundled: BundledEmbedding | null = null;
  #health: { answer: Promise<ModelsHealth>; askedAt: number } | null = null;

  constructor(
    @InjectEnv() env: Env,
    @Inject(INSTALLATION_EMBEDDING) private readonly ownEmbedding: InstallationEmbedding,
    private readonly context: TenantContext,
    private readonly catalogue: ModelCatalogue,
    private readonly clients: ModelClients,
  ) {
    this.#chat = env.llm ? new OpenAIChat(env.llm) : null;
    this.#installation = env.llm ? `${env.llm.baseUrl} ${env.llm.model}` : '';
    this.#vision = env.vision ? new OpenAIVision(env.vision) : null;
    this.#transcription = env.transcription ? new OpenAITranscription(env.transcription) : null;
  }

  /**
   * The model that makes vectors. There is no fallback: another one's vectors cannot be compared with them.
   *
   * @param choice the name of vectors that there are (of a knowledge base), or an entry by id or name; null: the default
   * @throws Problem 409 `embedding_model_changed` where no model makes such vectors (any more); ModelError
   */
  async embedding(choice?: string | null): Promise<EmbeddingModel> {
    const model = await this.embeddingOf(choice ?? null);
    if (!model) throw noSuchEmbedding(choice ?? '');
    return model;
  }

  /** The same; null where there is none. @throws ModelError */
  async embeddingOf(choice: string | null): Promise<EmbeddingModel | null> {
    const catalogue = await this.#catalogue();
    const entry =
      choice === null
        ? (catalogue?.defaults('embedding')[0] ?? null)
        : (catalogue?.findByVectors(choice) ?? null);
    if (entry) return this.#embeddingOf(entry);
    return choice === null || choice === this.ownEmbedding.name ? this.ownEmbedding : null;
  }

  /**
   * The model that writes answers. Where it fails for a passing reason before its first token, those that stand behind it in
   * the tenant's order are asked.
   *
   * @param choice an entry by id or name, or the installation's own by its name; null: the default
   * @returns null where there is none at all: answers are extracts of the passages then
   * @throws Problem 409 `unknown_model`; ModelError
   */
  async chat(choice?: string | null): Promise<ChatModel | null> {
    const catalogue = await this.#catalogue();
    const order = catalogue?.defaults('chat') ?? [];
    if (choice === undefined || choice === null) {
      return order.length > 0 ? this.#chain(order) : this.#chat;
    }
    const chosen = catalogue?.find('chat', choice) ?? null;
    if (!chosen) {
      if (choice === this.#chat?.name) return this.#chat;
      // No other name goes to the installation's server: nobody has said that it may have the passages, or be paid for it.
      if (this.#chat || catalogue?.has('chat')) throw unknownModel(choice);
      return null;
    }
    const place = order.findIndex(({ id }) => id === chosen.id);
    return this.#chain(place < 0 ? [chosen] : order.slice(place));
  }

  /** Says which models may write answers and order passages, as they are: another after every change of one. */
  async version(): Promise<string> {
    const catalogue = await this.#catalogue();
    return JSON.stringify([catalogue?.version ?? null, this.#installation]);
  }

  /**
   * The model that orders passages anew.
   *
   * @param choice an entry by id or name; null: the default
   * @returns null where there is none, or none of that name
   * @throws ModelError
   */
  async rerank(choice?: string | null): Promise<RerankModel | null> {
    return (await this.#client('rerank', choice ?? null))?.rerank ?? null;
  }

  /** Null where there is none: nobody reads pictures and scanned pages then. @throws ModelError */
  async vision(): Promise<VisionModel | null> {
    return (await this.#client('image2text', null))?.vision ?? this.#vision;
  }

  /** Null where there is none: audio and video are not taken then. @throws ModelError */
  async transcription(): Promise<TranscriptionModel | null> {
    return (await this.#client('asr', null))?.transcription ?? this.#transcription;
  }

  /** What the installation's settings name for a type; null: nothing. */
  ofInstallation(type: ModelType): string | null {
    switch (type) {
      case 'chat':
        return this.#chat?.name ?? null;
      case 'embedding':
        return this.ownEmbedding.name;
      case 'image2text':
        return this.#vision?.name ?? null;
      case 'asr':
        return this.#transcription?.name ?? null;
      default:
        return null;
    }
  }

  /** The bundled embedding model, also where the settings name another. */
  bundled(): BundledEmbedding {
    if (this.ownEmbedding instanceof BundledEmbedding) return this.ownEmbedding;
    this.#bundled ??= new BundledEmbedding();
    return this.#bundled;
  }

  /** Of the installation's own. Asked at most once in 30 s, so that health checks cost the endpoints nothing. */
  async health(): Promise<ModelsHealth> {
    const now = performance.now();
    if (!this.#health || now - this.#health.askedAt >= HEALTH_VALID_FOR) {
      this.#health = { answer: this.#ask(), askedAt: now };
    }
    return this.#health.answer;
  }

  // After the server has closed and jobs have drained: both may still need a vector until then.
  async onApplicationShutdown(): Promise<void> {
    if (this.ownEmbedding instanceof LocalEmbedding) await this.ownEmbedding.close();
    await this.#bundled?.close();
  }

  /** Null where no tenant acts: then there is what the settings name, and nothing else. */
  async #catalogue(): Promise<Catalogue | null> {
    return this.context.tenantOrNull ? this.catalogue.current() : null;
  }

  async #client(type: ModelType, choice: string | null): Promise<ModelClient | null> {
    const catalogue = await this.#catalogue();
    const entry = choice === null ? catalogue?.defaults(type)[0] : catalogue?.find(type, choice);
    return entry ? this.clients.of(entry) : null;
  }

  async #embeddingOf(entry: UsableEntry): Promise<EmbeddingModel> {
    if (entry.provider === 'bundled') return this.bundled();
    return (await this.clients.of(entry)).embedding;
  }

  /** The first must be usable; one behind it that is not is left out. */
  async #chain([first, ...fallbacks]: readonly UsableEntry[]): Promise<ChatModel> {
    const chain: LangchainChat[] = [(await this.clients.of(first as UsableEntry)).chat];
    for (const entry of fallbacks) {
      try {
        chain.push((await this.clients.of(entry)).chat);
      } catch (error) {
        if (!(error instanceof ModelError)) throw error;
        this.logger.warn(`A fallback cannot be used: ${error.message}`);
      }
    }
    return chain.length === 1 ? (chain[0] as LangchainChat) : new FallbackChat(chain);
  }

  async #ask(): Promise<ModelsHealth> {
    const [embedding, chat] = await Promise.all([this.ownEmbedding.isUp(), this.#chat?.isUp() ?? null]);
    return { embedding: embedding ? 'up' : 'down', chat: chat === null ? 'none' : chat ? 'up' : 'down' };
  }
}

const noSuchEmbedding = (choice: string): Problem =>
  Problem.conflict(
    'embedding_model_changed',
    `No model of this tenant makes vectors of ${choice}. Add one, or choose another and re-index the knowledge base.`,
  );

const unknownModel = (choice: string): Problem =>
  Problem.conflict('unknown_model', `This tenant has no chat model ${choice}.`);
