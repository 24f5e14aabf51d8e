import { createRequire } from 'node:module';
import { SettingsError } from '../../foundation/config/env.js';
import { workerEntry } from '../../foundation/worker-threads/worker-entry.js';
import { LocalEmbedding } from './local-embedding.js';
import type { OnnxWorkerData } from './onnx-embedding.worker.js';
import { type OnnxModel, readOnnxFolder, unusableFolder } from './onnx-folder.js';

/** No dependency: it takes hundreds of megabytes. The version is the one that this is made for and tested with. */
const PACKAGE = '@huggingface/transformers';
const VERSION = '4.3.1';

/** Neutral: nothing is known of the model until its fusion is calibrated on its own questions. */
const FUSION_WEIGHT = 0.5;

export interface OnnxEmbeddingOptions {
  /** Milliseconds without work after which the model's memory is given back. */
  idleTimeout?: number;
}

/**
 * An embedding model that the installation has as a folder, run by ONNX Runtime through transformers.js. Nothing is
 * downloaded. One thread holds the model, and ONNX Runtime itself spreads a text's work over the cores.
 *
 * A text is embedded alone and not in a batch: it needs no padding, and it has the same vector whatever stands beside it,
 * which in quantized models, whose scales are those of the whole batch, it would not.
 */
export class OnnxEmbedding extends LocalEmbedding {
  readonly name: string;
  readonly fusionWeight = FUSION_WEIGHT;
  readonly #prompts: OnnxModel['prompts'];

  private constructor({ name, folder, prompts }: OnnxModel, { idleTimeout }: OnnxEmbeddingOptions) {
    super({
      subject: 'The embedding model in ONNX format',
      worker: workerEntry(import.meta.url, './onnx-embedding.worker'),
      workerData: { folder, name } satisfies OnnxWorkerData,
      threads: 1,
      idleTimeout,
    });
    this.name = name;
    this.#prompts = prompts;
  }

  /**
   * Loads the model and tries it, so that a folder that is no good stops the start and not the first document.
   *
   * @param folder absolute path
   * @throws SettingsError
   */
  static async open(folder: string, options: OnnxEmbeddingOptions = {}): Promise<OnnxEmbedding> {
    const description = await readOnnxFolder(folder);
    requirePackage();
    const model = new OnnxEmbedding(description, options);
    try {
      await model.embedQuery('test');
      return model;
    } catch (error) {
      await model.close();
      const { cause, message } = error as Error;
      throw unusableFolder(
        folder,
        `the model cannot be used: ${cause instanceof Error ? cause.message : message}`,
      );
    }
  }

  protected override prepareQuery(text: string): string {
    return this.#prompts.query + text;
  }

  protected override prepareDocument(text: string): string {
    return this.#prompts.document + text;
  }
}

/** Whether the package is there that runs such models. It takes hundreds of megabytes, so only those have it who want it. */
export function hasOnnxPackage(): boolean {
  try {
    createRequire(import.meta.url).resolve(PACKAGE);
    return true;
  } catch {
    return false;
  }
}

function requirePackage(): void {
  if (hasOnnxPackage()) return;
  throw new SettingsError(
    `EMBEDDING_ONNX_PATH needs a package that is not installed: npm install --no-save --ignore-scripts ${PACKAGE}@${VERSION}`,
  );
}
