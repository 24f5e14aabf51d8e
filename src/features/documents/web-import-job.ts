import type { Acl } from './documents.dto.js';

/** The kind of job that brings in a list of addresses, or those of a sitemap. */
export const WEB_IMPORT_JOB = 'web-import';

export interface WebImportPayload {
  kbId: string;
  urls: string[];
  sitemapUrl: string | null;
  /** Patterns of paths, in which `*` stands for anything. Missing: all. */
  include: string[] | null;
  exclude: string[];
  maxPages: number;
  metadata: Record<string, unknown> | null;
  acl: Acl | null;
  priority: number;
  onExisting: 'version' | 'reject';
  /** Whether whoever asked may change documents that are there. */
  mayUpdate: boolean;
  createdBy: string | null;
  tokenId: string | null;
}
