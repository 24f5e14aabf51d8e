import type { Multipart } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import { basename } from 'node:path';
import type { LargestUpload } from '../../core/quotas/quotas.service.js';
import { Problem } from '../../foundation/http/problem.js';
import { inspect } from '../../foundation/http/request-guards.js';
import { type UploadFields, uploadFieldsSchema } from './documents.dto.js';
import type { IncomingFile } from './documents.service.js';

const LONGEST_FILE_NAME = 255;

/**
 * Goes through the parts of an upload as they arrive. Fields hold for the files after them, which is why they come
 * first: a file is stored while it streams in, before anybody could know what follows.
 *
 * @param largest file that is taken, and the problem with a larger one
 * @throws Problem 400 where the body is malformed or ends too soon, 415 where the body is no multipart/form-data, 422 for a field that is not known or stands too late
 */
export async function* uploadParts(
  request: FastifyRequest,
  largest: LargestUpload,
): AsyncGenerator<{ file: IncomingFile; fields: UploadFields }> {
  if (!request.isMultipart()) {
    throw new Problem(
      415,
      'unsupported_media_type',
      'This route takes multipart/form-data with one file or several.',
    );
  }
  const raw: Record<string, unknown> = {};
  let files = 0;
  const parts = request.parts({ limits: { fileSize: largest.bytes } });
  for await (const part of wellFormed<Multipart>(parts, largest)) {
    if (part.type === 'field') {
      if (files > 0) throw invalid(part.fieldname, 'field_after_file', 'Fields must stand before the files.');
      if (part.fieldname in raw) throw invalid(part.fieldname, 'repeated', 'must be given once');
      raw[part.fieldname] = part.value;
    } else {
      files++;
      const fields = parseFields(raw);
      const fileName = basename(part.filename.replaceAll('\\', '/'))
        .toWellFormed()
        .replaceAll('\0', '')
        .slice(0, LONGEST_FILE_NAME);
      yield {
        fields,
        file: {
          content: wellFormed<Buffer>(part.file, largest),
          fileName: fileName || null,
          declaredMimeType: part.mimetype,
          tooLarge: () => (part.file.truncated ? largest.tooLarge() : null),
        },
      };
      // Whoever took the part may have refused it unread; the next part comes only after this one's end.
      part.file.resume();
    }
  }
  if (files === 0) throw invalid('file', 'required', 'There is no file in this request.');
}

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

function parseFields(raw: Record<string, unknown>): UploadFields {
  const problem = inspect(raw);
  if (problem) throw problem;
  const result = uploadFieldsSchema.safeParse(raw);
  if (result.success) return result.data;
  throw Problem.invalid(
    result.error.issues.map(issue => ({
      path: issue.code === 'unrecognized_keys' ? issue.keys.join(', ') : issue.path.join('.'),
      code: issue.code === 'unrecognized_keys' ? 'unknown_field' : issue.code,
      message: issue.message,
    })),
  );
}

const invalid = (path: string, code: string, message: string): Problem =>
  Problem.invalid([{ path, code, message }]);
