import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { BundledEmbedding } from './bundled-embedding.js';
import type { ChatModel, EmbeddingModel, TranscriptionModel, VisionModel } from './model.js';
import { OpenAIChat } from './openai-chat.js';
import { OpenAIEmbedding } from './openai-embedding.js';
import { OpenAITranscription } from './transcription.js';
import { OpenAIVision } from './vision.js';

export interface ModelsHealth {
  embedding: 'up' | 'down';
  chat: 'up' | 'down' | 'none';
}

/** Milliseconds for which an answer of `health` stands. */
const HEALTH_VALID_FOR = 30_000;

/** The models of this installation, as its settings choose them. */
@Injectable()
export class ModelsService implements OnApplicationShutdown {
  readonly #embedding: BundledEmbedding | OpenAIEmbedding;
  readonly #chat: OpenAIChat | null;
  readonly #vision: OpenAIVision | null;
  readonly #transcription: OpenAITranscription | null;
  #health: { answer: Promise<ModelsHealth>; askedAt: number } | null = null;

  constructor(@InjectEnv() env: Env) {
    this.#embedding = env.embedding ? new OpenAIEmbedding(env.embedding) : new BundledEmbedding();
    this.#chat = env.llm ? new OpenAIChat(env.llm) : null;
    this.#vision = env.vision ? new OpenAIVision(env.vision) : null;
    this.#transcription = env.transcription ? new OpenAITranscription(env.transcription) : null;
  }

  embedding(): EmbeddingModel {
    return this.#embedding;
  }

  /** Null where no model is configured: answers are extracts of the passages then. */
  chat(): ChatModel | null {
    return this.#chat;
  }

  /** Null where no model is configured: nobody reads pictures and scanned pages then. */
  vision(): VisionModel | null {
    return this.#vision;
  }

  /** Null where no model is configured: audio and video are not taken then. */
  transcription(): TranscriptionModel | null {
    return this.#transcription;
  }

  /** Asked at most once in 30 s, so that health checks cost the endpoints nothing. */
  async health(): Promise<ModelsHealth> {
    const now = performance.now();
    if (!this.#health || now - this.#health.askedAt >= HEALTH_VALID_FOR) {
      this.#health = { answer: this.#ask(), askedAt: now };
    }
    return this.#health.answer;
  }

  // After the server has closed and jobs have drained: both may still need a vector until then.
  async onApplicationShutdown(): Promise<void> {
    if (this.#embedding instanceof BundledEmbedding) await this.#embedding.close();
  }

  async #ask(): Promise<ModelsHealth> {
    const [embedding, chat] = await Promise.all([this.#embedding.isUp(), this.#chat?.isUp() ?? null]);
    return { embedding: embedding ? 'up' : 'down', chat: chat === null ? 'none' : chat ? 'up' : 'down' };
  }
}
