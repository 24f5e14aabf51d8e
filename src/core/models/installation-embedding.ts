import type { Provider } from '@nestjs/common';
import { ENV } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { BundledEmbedding } from './bundled-embedding.js';
import type { LocalEmbedding } from './local-embedding.js';
import { OnnxEmbedding } from './onnx-embedding.js';
import { OpenAIEmbedding } from './openai-embedding.js';

/** The model for embeddings that the settings name: an endpoint, a folder, or nothing, which means the bundled one. */
export type InstallationEmbedding = LocalEmbedding | OpenAIEmbedding;

export const INSTALLATION_EMBEDDING = Symbol('INSTALLATION_EMBEDDING');

/** Before anything that asks for it: its name is only known once its files have been read. */
export const installationEmbedding: Provider = {
  provide: INSTALLATION_EMBEDDING,
  inject: [ENV],
  useFactory: openInstallationEmbedding,
};

/** @throws SettingsError where a folder is named whose model cannot be used */
export async function openInstallationEmbedding({
  embedding,
  embeddingFolder,
}: Pick<Env, 'embedding' | 'embeddingFolder'>): Promise<InstallationEmbedding> {
  if (embeddingFolder !== null) return OnnxEmbedding.open(embeddingFolder);
  return embedding ? new OpenAIEmbedding(embedding) : new BundledEmbedding();
}
