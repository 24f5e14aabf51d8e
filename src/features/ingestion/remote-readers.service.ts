import { AsyncResource } from 'node:async_hooks';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { Injectable } from '@nestjs/common';
import type { Reading, TranscriptionModel, VisionModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import type { DocumentWarning, LoadRequest } from '../../foundation/extraction/document-parts.js';
import { ScratchFolder } from '../../foundation/storage/scratch-folder.js';
import { DOCLING_PICTURES, hasSound, VISION_TYPES } from '../documents/remote-media.js';
import { DoclingClient } from './docling-client.js';

/** A file on this machine, of a type that was found by its content. */
export interface RemoteFile {
  path: string;
  mimeType: string;
  fileName: string | null;
}

/** What a service has read, as a file that the loader takes: under no name, for the original's would contradict it. */
export interface RemoteText {
  path: string;
  mimeType: 'text/markdown' | 'text/plain';
  /** 1 where the format has no pages. */
  pageCount: number;
  warnings: DocumentWarning[];
  release(): Promise<void>;
}

type ReadText = Omit<RemoteText, 'path' | 'release'> & { text: string };

/** Bytes of the largest picture that a model is shown: what OpenAI takes, as base64. */
const MAX_PICTURE = 20 * 1024 * 1024;

const OFFICE = 'application/vnd.openxmlformats-officedocument';
const DOCUMENT_EXTENSIONS: Record<string, string> = {
  'application/pdf': '.pdf',
  [`${OFFICE}.wordprocessingml.document`]: '.docx',
  [`${OFFICE}.presentationml.presentation`]: '.pptx',
  [`${OFFICE}.spreadsheetml.sheet`]: '.xlsx',
};
/** Services tell formats by the extension. */
const EXTENSIONS: Record<string, string> = {
  ...DOCUMENT_EXTENSIONS,
  'image/png': '.png',
  'image/jpeg': '.jpg',
  'image/webp': '.webp',
  'image/gif': '.gif',
  'image/bmp': '.bmp',
  'image/tiff': '.tiff',
  'audio/mpeg': '.mp3',
  'audio/wav': '.wav',
  'audio/flac': '.flac',
  'audio/aac': '.aac',
  'audio/ogg': '.ogg',
  'audio/ogg; codecs=opus': '.ogg',
  'audio/mp4': '.m4a',
  'audio/x-m4a': '.m4a',
  'video/mp4': '.mp4',
  'video/mpeg': '.mpeg',
  'video/webm': '.webm',
  'video/quicktime': '.mov',
  'video/matroska': '.mkv',
};

/** Files that other services read: Docling, a speech model, a model that sees. Each where it is configured. */
@Injectable()
export class RemoteReaders {
  private readonly docling: DoclingClient | null;

  constructor(
    @InjectEnv() env: Env,
    private readonly models: ModelsService,
    private readonly usage: UsageService,
    private readonly scratch: ScratchFolder,
  ) {
    this.docling = env.docling && new DoclingClient(env.docling);
  }

  /**
   * Has a file read by the service for its type.
   *
   * @returns null where no service reads files of this type
   * @throws DocumentError where there is nothing to read in it; ModelError where the service fails
   */
  async read(file: RemoteFile, { signal }: { signal: AbortSignal }): Promise<RemoteText | null> {
    const read = await this.readerOf(file.mimeType);
    if (!read) return null;
    const { text, ...rest } = await read(file, signal);
    if (text.trim() === '') throw nothingIn(file.mimeType);
    const folder = await this.scratch.make();
    const release = () => rm(folder, { recursive: true, force: true });
    try {
      const path = join(folder, 'text');
      await writeFile(path, text);
      return { ...rest, path, release };
    } catch (error) {
      await release();
      throw error;
    }
  }

  /** Reads scanned pages, for the loader; undefined where no model sees. Belongs to the request or job that asks for it. */
  async recognizer(signal: AbortSignal): Promise<LoadRequest['recognize']> {
    const vision = await this.models.vision();
    if (!vision) return undefined;
    // The loader asks from a thread's message, which belongs to no request or job.
    return AsyncResource.bind(async ({ png }: { png: Uint8Array }) =>
      this.noted(await vision.read({ content: png, mimeType: 'image/png' }, { signal })),
    );
  }

  private async readerOf(
    mimeType: string,
  ): Promise<((file: RemoteFile, signal: AbortSignal) => Promise<ReadText>) | null> {
    const { docling } = this;
    if (docling && (DOCUMENT_EXTENSIONS[mimeType] || DOCLING_PICTURES.includes(mimeType))) {
      return (file, signal) => this.convert(docling, file, signal);
    }
    const transcription = hasSound(mimeType) ? await this.models.transcription() : null;
    if (transcription) return (file, signal) => this.transcribe(transcription, file, signal);
    const vision = VISION_TYPES.includes(mimeType) ? await this.models.vision() : null;
    if (vision) return (file, signal) => this.look(vision, file, signal);
    return null;
  }

  private async convert(docling: DoclingClient, file: RemoteFile, signal: AbortSignal): Promise<ReadText> {
    const { markdown, pageCount, partly } = await docling.convert(named(file), signal);
    const warning = {
      code: 'partly_read',
      message: 'Some of the file could not be read by the Docling service.',
    };
    return { text: markdown, mimeType: 'text/markdown', pageCount, warnings: partly ? [warning] : [] };
  }

  private async transcribe(
    model: TranscriptionModel,
    file: RemoteFile,
    signal: AbortSignal,
  ): Promise<ReadText> {
    const transcript = await model.transcribe(named(file), { signal });
    const mimeType = transcript.format === 'markdown' ? 'text/markdown' : 'text/plain';
    return { text: this.noted(transcript), mimeType, pageCount: 1, warnings: [] };
  }

  private async look(model: VisionModel, file: RemoteFile, signal: AbortSignal): Promise<ReadText> {
    const { path, mimeType } = file;
    if ((await stat(path)).size > MAX_PICTURE) {
      throw new DocumentError('too_large', `A picture may have ${MAX_PICTURE / 1024 ** 2} MB at most.`);
    }
    const text = this.noted(await model.read({ content: await readFile(path), mimeType }, { signal }));
    return { text, mimeType: 'text/markdown', pageCount: 1, warnings: [] };
  }

  private noted({ text, inputTokens, outputTokens }: Reading): string {
    this.usage.note({ inputTokens, outputTokens });
    return text;
  }
}

/** The original name says more than a service needs to know. */
function named({ path, mimeType, fileName }: RemoteFile): {
  path: string;
  mimeType: string;
  fileName: string;
} {
  const own = extname(fileName ?? '').toLowerCase();
  const extension = EXTENSIONS[mimeType] ?? (/^\.[a-z\d]{1,8}$/.test(own) ? own : '');
  return { path, mimeType, fileName: `${hasSound(mimeType) ? 'recording' : 'document'}${extension}` };
}

function nothingIn(mimeType: string): DocumentError {
  const message = hasSound(mimeType)
    ? 'Nothing is said in the recording.'
    : mimeType.startsWith('image/')
      ? 'There is no text in the picture.'
      : 'There is no text in the file.';
  return new DocumentError('no_text', message);
}
