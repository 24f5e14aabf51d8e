/** What to answer to a request for the content of something (RFC 9110, 13 and 14). */
export type DownloadPlan =
  | { status: 200 }
  | { status: 206; range: { start: number; end: number }; contentRange: string }
  | { status: 304 }
  | { status: 416; contentRange: string };

export interface DownloadHeaders {
  range?: string;
  'if-range'?: string;
  'if-none-match'?: string;
}

/**
 * Reads the conditions of a request. Of ranges, one in bytes is known; what is not understood, or asks for several, is
 * answered with the whole.
 *
 * @param content.etag strong, with its quotes
 */
export function planDownload(
  method: string,
  headers: DownloadHeaders,
  { etag, sizeBytes }: { etag: string; sizeBytes: number },
): DownloadPlan {
  const noneMatch = headers['if-none-match'];
  if (noneMatch !== undefined && names(noneMatch, etag)) return { status: 304 };
  const ifRange = headers['if-range'];
  if (method !== 'GET' || headers.range === undefined || (ifRange !== undefined && ifRange !== etag))
    return { status: 200 };
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(headers.range.replaceAll(' ', '')) ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return { status: 200 };
  const start = first === '' ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const end = first === '' || last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  // The wrong way round it is no range at all.
  if (first !== '' && last !== '' && Number(last) < Number(first)) return { status: 200 };
  if (start > end) return { status: 416, contentRange: `bytes */${sizeBytes}` };
  return { status: 206, range: { start, end }, contentRange: `bytes ${start}-${end}/${sizeBytes}` };
}

const names = (header: string, etag: string): boolean =>
  header.trim() === '*' ||
  header
    .split(',')
    .map(tag => tag.trim().replace(/^W\//, ''))
    .includes(etag);
