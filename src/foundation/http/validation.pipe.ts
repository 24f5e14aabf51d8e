import { StandardSchemaValidationPipe } from '@nestjs/common';
import type { z } from 'zod';
import { type FieldError, Problem } from './problem.js';

type Issues = Parameters<
  NonNullable<NonNullable<ConstructorParameters<typeof StandardSchemaValidationPipe>[0]>['exceptionFactory']>
>[0];

/** More would only repeat the same mistake. */
const MOST_ERRORS = 50;

/** Nest's pipe for zod schemas, answering with a problem that names every field. */
export function validationPipe(): StandardSchemaValidationPipe {
  return new StandardSchemaValidationPipe({
    exceptionFactory: issues => Problem.invalid(fieldErrors(issues)),
  });
}

/** The same for what does not come through the pipe. @throws Problem 422 */
export function parseFields<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const { data, error } = schema.safeParse(value);
  if (error) throw Problem.invalid(fieldErrors(error.issues));
  return data;
}

function fieldErrors(issues: Issues): FieldError[] {
  return issues.slice(0, MOST_ERRORS).flatMap(issue => {
    const path = (issue.path ?? []).map(part => String(typeof part === 'object' ? part.key : part));
    const { code = 'invalid', keys } = issue as { code?: string; keys?: string[] };
    // One error a field: zod names all unknown keys of an object in one issue.
    if (code === 'unrecognized_keys' && keys) {
      return keys.slice(0, MOST_ERRORS).map(key => ({
        path: [...path, key].join('.'),
        code: 'unknown_field',
        message: 'There is no such field.',
      }));
    }
    return [{ path: path.join('.'), code, message: issue.message }];
  });
}
