import { Injectable, type OnModuleInit } from '@nestjs/common';
import { setImmediate } from 'node:timers/promises';
import { BackgroundJobs, JobError, JobRetry, type JobRun } from '../../core/jobs/background-jobs.service.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { Problem } from '../../foundation/http/problem.js';
import { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import { DocumentJobs } from '../documents/document-jobs.service.js';
import { DocumentVersionsService } from '../documents/document-versions.service.js';
import { DocumentsService } from '../documents/documents.service.js';
import { canonicalAddress, titleOfAddress } from '../documents/web-address.js';
import { WEB_IMPORT_JOB, type WebImportPayload } from '../documents/web-import-job.js';
import { KnowledgeBasesRepository } from '../knowledge-bases/knowledge-bases.repository.js';
import { WebFault } from './web-fault.js';
import { matchesPath } from './web-path-pattern.js';
import { WebSitemaps } from './web-sitemaps.js';

const MOST_ATTEMPTS = 5;
/** Seconds until a sitemap is asked for again. */
const RETRY_DELAY = 10;
/** Addresses between two reports. */
const REPORT_EVERY = 50;
/** Addresses between two turns of the event loop. */
const TURN_EVERY = 20;
/** Addresses that are named; of more, how many there are. */
const MOST_NAMED = 1_000;
const QUOTA_EXCEEDED = 'quota_exceeded';

/** What came of an import, on the wire. */
interface ImportResult {
  accepted: number;
  /** Left out by the patterns, or named twice. */
  skipped: number;
  /** Whether there were more addresses than were to be taken. */
  truncated: boolean;
  rejected_count: number;
  /** The first of them. */
  rejected: Array<{ url: string; code: string }>;
}

/** Makes a document of each address in a list or a sitemap; the pages are fetched when those are ingested. */
@Injectable()
export class WebImport implements OnModuleInit {
  private readonly sitemaps: WebSitemaps;

  constructor(
    @InjectEnv() env: Pick<Env, 'web'>,
    private readonly outbound: OutboundClient,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesRepository,
    private readonly versions: DocumentVersionsService,
    private readonly documents: DocumentsService,
    private readonly documentJobs: DocumentJobs,
    private readonly jobs: BackgroundJobs,
  ) {
    this.sitemaps = new WebSitemaps(outbound, env.web);
  }

  onModuleInit(): void {
    this.jobs.define<WebImportPayload>({
      kind: WEB_IMPORT_JOB,
      mostAttempts: MOST_ATTEMPTS,
      lane: 'outbound',
      run: job => this.run(job),
      children: (tx, jobIds) => this.documentJobs.children(tx, jobIds),
      cancel: ({ id }) => this.documents.cancelImport(id),
    });
  }

  /** Run again, it finds the documents that it has made already. @throws JobError, JobRetry */
  private async run(job: JobRun<WebImportPayload>): Promise<ImportResult> {
    const { payload, signal } = job;
    const kb = await this.database.run(tx => this.knowledgeBases.find(tx, payload.kbId));
    if (!kb) throw new JobError('kb_gone', 'The knowledge base of this import has been deleted.');
    const result: ImportResult = {
      accepted: 0,
      skipped: 0,
      truncated: false,
      rejected_count: 0,
      rejected: [],
    };
    const reject = (url: string, code: string) => {
      result.rejected_count++;
      if (result.rejected.length < MOST_NAMED) result.rejected.push({ url: url.slice(0, 2000), code });
    };
    const seen = new Set<string>();
    let taken = 0;
    let looked = 0;
    let full = false;
    for await (const found of this.addresses(payload, signal)) {
      signal.throwIfAborted();
      // A hundred patterns each, and nothing else to wait for: others have to get their turn.
      if (++looked % TURN_EVERY === 0) await setImmediate();
      if (typeof found !== 'string') {
        reject(found.url, found.fault.code);
        continue;
      }
      const address = this.addressOf(found);
      if (typeof address !== 'string') {
        reject(found, address.code);
        continue;
      }
      if (seen.has(address) || !isWanted(new URL(address).pathname, payload)) {
        result.skipped++;
        continue;
      }
      if (taken === payload.maxPages) {
        result.truncated = true;
        break;
      }
      seen.add(address);
      taken++;
      const refusal: string | null = full ? QUOTA_EXCEEDED : await this.take(kb, address, job);
      if (refusal === null) result.accepted++;
      else reject(address, refusal);
      // A limit that is reached stays so: the others need not be tried.
      full ||= refusal === QUOTA_EXCEEDED;
      if (taken % REPORT_EVERY === 0) await job.report('documents', taken / (payload.maxPages + 1));
    }
    return result;
  }

  private async *addresses(
    { urls, sitemapUrl }: WebImportPayload,
    signal: AbortSignal,
  ): AsyncGenerator<string | { url: string; fault: WebFault }> {
    yield* urls;
    if (sitemapUrl === null) return;
    try {
      yield* this.sitemaps.addresses(sitemapUrl, signal);
    } catch (error) {
      if (!(error instanceof WebFault)) throw error;
      const message = `The sitemap was not read: ${error.message}`;
      if (!error.passing) throw new JobError(error.code, message);
      throw new JobRetry(error.code, message, error.retryAfter ?? RETRY_DELAY);
    }
  }

  private addressOf(url: string): string | { code: string } {
    try {
      this.outbound.check(url);
      return canonicalAddress(url) ?? { code: 'invalid_url' };
    } catch (error) {
      if (error instanceof OutboundError) return { code: error.code };
      throw error;
    }
  }

  /** @returns the code of the problem with it; null where there is none */
  private async take(
    kb: { id: string; tenantId: string },
    address: string,
    { id: jobId, payload }: JobRun<WebImportPayload>,
  ): Promise<string | null> {
    const { metadata, acl, priority, onExisting, createdBy: userId, tokenId, mayUpdate } = payload;
    try {
      await this.versions.request(kb, {
        source: 'url',
        sourceUrl: address,
        sourceId: address,
        fallbackTitle: titleOfAddress(address),
        metadata: metadata ?? undefined,
        acl: acl ?? undefined,
        priority,
        jobId,
        onExisting,
        by: { userId, tokenId, mayUpdate },
      });
      return null;
    } catch (error) {
      if (error instanceof Problem) return error.code;
      throw error;
    }
  }
}

function isWanted(path: string, { include, exclude }: WebImportPayload): boolean {
  const matches = (pattern: string) => matchesPath(pattern, path);
  return (include === null || include.some(matches)) && !exclude.some(matches);
}
