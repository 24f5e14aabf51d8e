import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';

export interface FilePart {
  /** Name of the field. */
  field: string;
  path: string;
  fileName: string;
  mimeType: string;
}

/** What goes over the wire: once, for the stream is read as it is sent. */
export interface MultipartBody {
  headers: Record<string, string>;
  content: Readable;
}

/** A `multipart/form-data` body (RFC 7578) whose file is streamed from the disk; its length is known before. */
export async function multipartBody(fields: Record<string, string>, file: FilePart): Promise<MultipartBody> {
  const boundary = `enclave-${randomBytes(16).toString('hex')}`;
  const part = (name: string, more: string) =>
    `--${boundary}\r\ncontent-disposition: form-data; name="${quoted(name)}"${more}\r\n\r\n`;
  const head = Buffer.from(
    Object.entries(fields)
      .map(([name, value]) => `${part(name, '')}${value}\r\n`)
      .join('') + part(file.field, `; filename="${quoted(file.fileName)}"\r\ncontent-type: ${file.mimeType}`),
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  const { size } = await stat(file.path);
  return {
    headers: {
      'content-type': `multipart/form-data; boundary=${boundary}`,
      'content-length': String(head.length + size + tail.length),
    },
    content: Readable.from(
      (async function* () {
        yield head;
        // No more than was announced, should the file grow.
        if (size > 0) yield* createReadStream(file.path, { end: size - 1 });
        yield tail;
      })(),
      { objectMode: false },
    ),
  };
}

/** As browsers write names (HTML Standard, multipart/form-data encoding algorithm). */
function quoted(name: string): string {
  return name.replaceAll('\r', '%0D').replaceAll('\n', '%0A').replaceAll('"', '%22');
}
