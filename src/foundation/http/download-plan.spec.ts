import { describe, expect, it } from 'vitest';
import { type DownloadHeaders, planDownload } from './download-plan.js';

const etag = '"abc"';
const plan = (headers: DownloadHeaders, sizeBytes = 1000, method = 'GET') =>
  planDownload(method, headers, { etag, sizeBytes });
const part = (start: number, end: number) => ({
  status: 206,
  range: { start, end },
  contentRange: `bytes ${start}-${end}/1000`,
});

describe('planDownload', () => {
  it.each([
    ['bytes=0-0', part(0, 0)],
    ['bytes=0-', part(0, 999)],
    ['bytes=10-19', part(10, 19)],
    ['bytes=990-5000', part(990, 999)],
    ['bytes=-1', part(999, 999)],
    ['bytes=-5000', part(0, 999)],
    ['bytes= 10 - 19', part(10, 19)],
  ])('gives the part %s', (range, expected) => {
    expect(plan({ range })).toEqual(expected);
  });

  it.each(['bytes=1000-', 'bytes=5000-6000', 'bytes=-0', `bytes=${'9'.repeat(400)}-`])(
    'has no part %s',
    range => {
      expect(plan({ range })).toEqual({ status: 416, contentRange: 'bytes */1000' });
    },
  );

  it.each(['bytes=1-2,5-6', 'bytes=-', 'bytes=20-10', 'lines=1-2', 'bytes=a-b', 'bytes', ''])(
    'gives the whole for %j',
    range => {
      expect(plan({ range })).toEqual({ status: 200 });
    },
  );

  it('has no part of what is empty', () => {
    for (const range of ['bytes=0-', 'bytes=-5'])
      expect(plan({ range }, 0)).toEqual({ status: 416, contentRange: 'bytes */0' });
    expect(plan({}, 0)).toEqual({ status: 200 });
  });

  it('gives a part only of what the client has the rest of', () => {
    const range = 'bytes=1-2';
    expect(plan({ range, 'if-range': etag }).status).toBe(206);
    for (const other of ['"other"', 'W/"abc"', 'Wed, 21 Oct 2015 07:28:00 GMT'])
      expect(plan({ range, 'if-range': other }).status).toBe(200);
  });

  it('gives nothing where the client has it', () => {
    for (const header of [etag, 'W/"abc"', '"x", "abc"', '*'])
      expect(plan({ 'if-none-match': header, range: 'bytes=1-2' })).toEqual({ status: 304 });
    expect(plan({ 'if-none-match': '"x"' })).toEqual({ status: 200 });
  });

  it('gives parts to GET alone', () => {
    expect(plan({ range: 'bytes=1-2' }, 1000, 'HEAD')).toEqual({ status: 200 });
  });
});
