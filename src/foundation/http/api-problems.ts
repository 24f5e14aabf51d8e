import { applyDecorators } from '@nestjs/common';
import {
  ApiExtraModels,
  ApiProperty,
  ApiPropertyOptional,
  ApiResponse,
  getSchemaPath,
} from '@nestjs/swagger';
import { titleOf } from './problem.js';

class ProblemFieldError {
  @ApiProperty({ example: 'config.chunk_size' })
  path!: string;

  @ApiProperty({ example: 'too_big' })
  code!: string;

  @ApiProperty({ example: 'Too big: expected number to be <=8000' })
  message!: string;
}

/** RFC 9457, as every error of this API looks. */
export class ProblemDocument {
  @ApiProperty({ example: 'about:blank' })
  type!: string;

  @ApiProperty({ example: 'Unprocessable Content' })
  title!: string;

  @ApiProperty({ example: 422 })
  status!: number;

  @ApiProperty({
    example: 'Some fields are not valid; `errors` names each.',
    description: 'For people; may change.',
  })
  detail!: string;

  @ApiProperty({ example: '/api/v1/tenants', description: 'The path that was asked for.' })
  instance!: string;

  @ApiProperty({ example: 'validation_failed', description: 'For programs; stable.' })
  code!: string;

  @ApiProperty({
    example: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11',
    description: 'Also in the header X-Request-Id and in the log.',
  })
  request_id!: string;

  @ApiPropertyOptional({ type: [ProblemFieldError] })
  errors?: ProblemFieldError[];
}

const CODES: Record<number, string> = {
  400: 'malformed',
  401: 'unauthorized',
  402: 'insufficient_credits',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
  413: 'too_large',
  415: 'unsupported_type',
  416: 'range_not_satisfiable',
  422: 'validation_failed',
  429: 'rate_limited',
  503: 'unavailable',
};

/** A problem of this status, for the API document. */
export const problemResponse = (status: number) => ({
  description: titleOf(status),
  content: {
    'application/problem+json': {
      schema: { $ref: getSchemaPath(ProblemDocument) },
      example: {
        type: 'about:blank',
        title: titleOf(status),
        status,
        detail: '…',
        instance: '/api/v1/…',
        code: CODES[status] ?? 'error',
        request_id: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11',
      },
    },
  },
});

/** Documents the problems that a route may answer with. */
export function ApiProblems(...statuses: number[]): MethodDecorator & ClassDecorator {
  return applyDecorators(
    ApiExtraModels(ProblemDocument),
    ...statuses.map(status => ApiResponse({ status, ...problemResponse(status) })),
  );
}
