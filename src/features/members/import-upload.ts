import type { Multipart } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import { Problem } from '../../foundation/http/problem.js';
import { parseFields } from '../../foundation/http/validation.pipe.js';
import { readCsvRows } from './csv-rows.js';
import type { RawRow } from './import-rows.js';
import { type ImportFields, importFieldsSchema } from './member-import.dto.js';

/** Bytes: 10,000 rows of 500. */
const LARGEST_FILE = 5 * 1024 * 1024;

/**
 * Reads a list of people that is uploaded as one CSV file, with fields before or after it.
 *
 * @throws Problem 400, 413, 415, 422 for a body that is no such upload
 */
export async function readImport(request: FastifyRequest): Promise<{ rows: RawRow[]; fields: ImportFields }> {
  if (!request.isMultipart()) {
    throw new Problem(415, 'unsupported_media_type', 'This route takes multipart/form-data with one file.');
  }
  try {
    return await readParts(request);
  } catch (error) {
    // Whoever still sends would otherwise wait for somebody to read it, and never look at the answer.
    request.raw.unpipe();
    request.raw.resume();
    throw error;
  }
}

async function readParts(request: FastifyRequest): Promise<{ rows: RawRow[]; fields: ImportFields }> {
  const raw: Record<string, string> = {};
  let rows: RawRow[] | null = null;
  const limits = { fileSize: LARGEST_FILE, files: 1 };
  for await (const part of wellFormed<Multipart>(request.parts({ limits }))) {
    // A part need not have a name.
    const name = (part.fieldname as string | undefined) ?? '';
    if (part.type === 'file') {
      if (name !== 'file')
        throw invalid(name, 'unknown_field', 'There is no such field: the file’s is `file`.');
      rows = await readCsvRows(wellFormed<Buffer>(part.file), () => part.file.truncated);
    } else {
      if (Object.hasOwn(raw, name)) throw invalid(name, 'repeated', 'must be given once');
      raw[name] = String(part.value);
    }
  }
  const fields = parseFields(importFieldsSchema, raw);
  if (!rows) throw invalid('file', 'required', 'There is no file in this request.');
  return { rows, fields };
}

/** The parser of multipart bodies throws plain errors; those that have a code say more than that. */
async function* wellFormed<T>(parts: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* parts;
  } catch (error) {
    if (error instanceof Problem || typeof (error as { code?: unknown }).code === 'string') throw error;
    throw Problem.malformed('malformed_multipart', 'The body is no complete multipart/form-data.');
  }
}

const invalid = (path: string, code: string, message: string): Problem =>
  Problem.invalid([{ path, code, message }]);
