import { Injectable } from '@nestjs/common';
import { posix } from 'node:path';
import { ModelsService } from '../../core/models/models.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import { detectType } from '../../foundation/extraction/document-type.js';
import { OutboundClient, type OutboundStream } from '../../foundation/outbound/outbound-client.js';
import { FileStorage, type ReceivedFile } from '../../foundation/storage/file-storage.js';
import type { FetchedPage } from '../documents/document-versions.service.js';
import { isReadRemotely } from '../documents/remote-media.js';
import { LONGEST_ADDRESS } from '../documents/web-address.js';
import { inUtf8 } from './web-charset.js';
import { WebFault, pageTooLarge, refusedBy, webFaultOf } from './web-fault.js';
import { WebHosts } from './web-hosts.js';
import { WebRobots } from './web-robots.js';

const REDIRECTS = 5;
/** Requests to one host at a time, of this process. */
const MOST_PER_HOST = 2;
const LONGEST_FILE_NAME = 255;

/** Fetches pages of the web into the storage, without holding them in memory. */
@Injectable()
export class WebPages {
  private readonly hosts = new WebHosts(MOST_PER_HOST);
  private readonly robots: WebRobots | null;

  constructor(
    @InjectEnv()
    private readonly env: Pick<Env, 'web' | 'docling'>,
    private readonly outbound: OutboundClient,
    private readonly quotas: QuotasService,
    private readonly storage: FileStorage,
    private readonly models: ModelsService,
  ) {
    this.robots = env.web.respectRobots ? new WebRobots(outbound, env.web.userAgent) : null;
  }

  /**
   * In the context of the tenant that asks for it, and in no transaction.
   *
   * @returns a file that is to be kept or discarded
   * @throws WebFault `fetch_failed`, which may pass, `robots_disallowed`, `address_refused`, `too_large`; DocumentError for
   *   what cannot be ingested; the reason of `signal` where that aborts
   */
  async fetch(url: string, { signal }: { signal?: AbortSignal } = {}): Promise<FetchedPage> {
    const { host } = this.check(url);
    return this.hosts.run(host, () => this.request(url, signal), signal);
  }

  private check(url: string): URL {
    try {
      return this.outbound.check(url);
    } catch (error) {
      throw webFaultOf(error);
    }
  }

  private async request(url: string, signal: AbortSignal | undefined): Promise<FetchedPage> {
    const { bytes: mostBytes } = await this.quotas.largestUpload();
    try {
      const answer = await this.outbound.open({
        url,
        method: 'GET',
        headers: {
          'user-agent': this.env.web.userAgent,
          accept: 'text/html, application/xhtml+xml, text/*;q=0.9, application/pdf;q=0.9, */*;q=0.5',
        },
        timeout: this.env.web.timeout,
        mostBytes,
        redirects: REDIRECTS,
        unpack: true,
        before: async target => {
          // Redirects lead to addresses that nobody has looked at yet.
          if (target.href.length > LONGEST_ADDRESS) throw tooLongAddress();
          await this.robots?.requireAllowed(target);
        },
        signal,
      });
      try {
        return await this.receive(answer, mostBytes);
      } finally {
        answer.close();
      }
    } catch (error) {
      throw webFaultOf(error);
    }
  }

  private async receive(answer: OutboundStream, mostBytes: number): Promise<FetchedPage> {
    const { status, headers, url } = answer;
    if (status < 200 || status > 299) throw refusedBy(status, headers['retry-after']);
    if (Number(headers['content-length']) > mostBytes) throw pageTooLarge();
    const declared = headers['content-type'] ?? '';
    const file = await this.storage.receive(inUtf8(answer.body, declared));
    const fileName = fileNameOf(url);
    try {
      return { file, url, fileName, mimeType: await this.typeOf(file, fileName, declared) };
    } catch (error) {
      await file.discard();
      throw error;
    }
  }

  /** What a server calls a page only settles what its content leaves open: servers know no better. */
  private async typeOf(file: ReceivedFile, fileName: string | null, declared: string): Promise<string> {
    const readers = {
      docling: this.env.docling,
      transcription: await this.models.transcription(),
      vision: await this.models.vision(),
    };
    const alsoReadable = (mimeType: string) => isReadRemotely(readers, mimeType);
    const claims = { fileName: fileName ?? undefined, declaredMimeType: declared || undefined };
    try {
      return await detectType(file.head, claims, { alsoReadable });
    } catch (error) {
      if (!(error instanceof DocumentError && error.code === 'type_mismatch')) throw error;
      return detectType(file.head, {}, { alsoReadable });
    }
  }
}

const tooLongAddress = () =>
  new WebFault(
    'address_refused',
    `The server leads to an address of more than ${LONGEST_ADDRESS} characters.`,
  );

/** The end of an address that has the form of a file's name. */
function fileNameOf(url: string): string | null {
  const name = posix
    .basename(decoded(new URL(url).pathname))
    .replaceAll('\0', '')
    .toWellFormed();
  return /[^.]\.[a-z0-9]{1,10}$/i.test(name) ? name.slice(-LONGEST_FILE_NAME) : null;
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
