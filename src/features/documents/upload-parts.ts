import type { Multipart } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import { posix } from 'node:path';
import type { LargestUpload } from '../../core/quotas/quotas.service.js';
import { Problem } from '../../foundation/http/problem.js';
import { inspect } from '../../foundation/http/request-guards.js';
import { parseFields } from '../../foundation/http/validation.pipe.js';
import type { IncomingFile, UploadPart } from './document-sources.service.js';
import { type UploadFields, uploadFieldsSchema } from './documents.dto.js';

const LONGEST_FILE_NAME = 255;

/** A file of a form, with the fields that stand before it; without a file, the fields of a form that has none. */
export interface FormPart<Fields> {
  file: IncomingFile | null;
  fields: Fields;
}

/**
 * Goes through the parts of an upload as they arrive.
 *
 * @param largest file that is taken, and the problem with a larger one
 * @param options.urls whether the field `url` may stand in the place of files
 * @throws as {@link formParts}, and Problem 422 where there is no file
 */
export async function* uploadParts(
  request: FastifyRequest,
  largest: LargestUpload,
  { urls = false } = {},
): AsyncGenerator<UploadPart> {
  for await (const { file, fields } of formParts(request, largest, raw => fieldsOf(raw, urls))) {
    const { url } = fields;
    if (file && url !== undefined)
      throw invalid('url', 'not_with_files', 'There are files in this request: add the address apart.');
    if (file) yield { file, fields };
    else if (url === undefined) throw noFile();
    else yield { url, fields };
  }
}

export const noFile = (): Problem => invalid('file', 'required', 'There is no file in this request.');

/**
 * Goes through the parts of a form as they arrive. Fields hold for the files after them, which is why they come
 * first: a file is taken in while it streams, before anybody could know what follows.
 *
 * @throws Problem 400 where the body is malformed or ends too soon, 415 where the body is no multipart/form-data, 422 for a field that is not known or stands too late
 */
export async function* formParts<Fields>(
  request: FastifyRequest,
  largest: LargestUpload,
  parse: (raw: Record<string, unknown>) => Fields,
): AsyncGenerator<FormPart<Fields>> {
  if (!request.isMultipart()) {
    throw new Problem(
      415,
      'unsupported_media_type',
      'This route takes multipart/form-data with one file or several.',
    );
  }
  const raw: Record<string, unknown> = {};
  let files = 0;
  const parts = request.parts({ limits: { fileSize: largest.bytes }, preservePath: true });
  for await (const part of wellFormed<Multipart>(parts, largest)) {
    if (part.type === 'field') {
      if (files > 0) throw invalid(part.fieldname, 'field_after_file', 'Fields must stand before the files.');
      if (part.fieldname in raw) throw invalid(part.fieldname, 'repeated', 'must be given once');
      raw[part.fieldname] = part.value;
    } else {
      files++;
      const path = cleanPath(part.filename);
      yield {
        fields: parseStorable(raw, parse),
        file: {
          content: wellFormed<Buffer>(part.file, largest),
          fileName: posix.basename(path).slice(0, LONGEST_FILE_NAME) || null,
          path: path || null,
          declaredMimeType: part.mimetype,
          tooLarge: () => (part.file.truncated ? largest.tooLarge() : null),
        },
      };
      // Whoever took the part may have refused it unread; the next part comes only after this one's end.
      part.file.resume();
    }
  }
  if (files === 0) yield { file: null, fields: parseStorable(raw, parse) };
}

/** A file's path as its sender has it, without what leads out of its folder or stands for a drive. */
const cleanPath = (path: string): string =>
  path
    .toWellFormed()
    .replaceAll('\0', '')
    .replaceAll('\\', '/')
    .replace(/^[a-z]:/i, '')
    .split('/')
    .filter(part => !['', '.', '..'].includes(part))
    .join('/');

/** The parser of multipart bodies throws plain errors; those that have a code say more than that. */
async function* wellFormed<T>(parts: AsyncIterable<T>, largest: LargestUpload): AsyncGenerator<T> {
  try {
    yield* parts;
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === 'FST_REQ_FILE_TOO_LARGE') throw largest.tooLarge();
    if (typeof code === 'string') throw error;
    throw Problem.malformed('malformed_multipart', 'The body is no complete multipart/form-data.');
  }
}

function parseStorable<Fields>(
  raw: Record<string, unknown>,
  parse: (raw: Record<string, unknown>) => Fields,
): Fields {
  const problem = inspect(raw);
  if (problem) throw problem;
  return parse(raw);
}

function fieldsOf(raw: Record<string, unknown>, urls: boolean): UploadFields {
  if ('url' in raw && !urls) throw invalid('url', 'unknown_field', 'There is no such field.');
  return parseFields(uploadFieldsSchema, raw);
}

const invalid = (path: string, code: string, message: string): Problem =>
  Problem.invalid([{ path, code, message }]);
