import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException, Logger } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem, titleOf } from './problem.js';

/** Turns whatever was thrown into a problem document, and lets nothing of an unexpected error out. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  private readonly logger = new Logger('http');

  catch(error: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    sendProblem(toProblem(error, this.logger), request, reply);
  }
}

/** For the filter, and for the errors that Fastify meets before or after Nest. */
export function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): void {
  // A stream that has begun cannot become a problem any more; an answer that is whole stays what it is.
  if (reply.raw.headersSent) {
    if (!reply.raw.writableEnded) reply.raw.destroy();
    return;
  }
  void reply
    .code(problem.status)
    .headers({
      'content-type': 'application/problem+json; charset=utf-8',
      'cache-control': 'no-store',
      // What Fastify refuses before any hook has none yet.
      'x-request-id': request.id,
      ...problem.options.headers,
    })
    .serializer((body: unknown) => JSON.stringify(body))
    .send(toProblemDocument(problem, request));
}

export function toProblemDocument(problem: Problem, request: Pick<FastifyRequest, 'url' | 'id'>): object {
  const { status, code, detail } = problem;
  const { errors, members } = problem.options;
  return {
    ...members,
    type: 'about:blank',
    title: titleOf(status),
    status,
    detail,
    instance: request.url.split('?', 1)[0],
    code,
    request_id: request.id,
    ...(errors && { errors }),
  };
}

interface FastifyLikeError {
  code: string;
  statusCode: number;
  message: string;
}

/** The sentence and code for what Fastify and its plugins throw, by their error code. */
const FASTIFY_PROBLEMS: Record<string, [status: number, code: string, detail: string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: [413, 'too_large', 'The body is larger than this installation accepts.'],
  FST_REQ_FILE_TOO_LARGE: [413, 'too_large', 'A file is larger than this installation accepts.'],
  FST_FILES_LIMIT: [413, 'too_many_files', 'There are more files in this request than are accepted at once.'],
  FST_PARTS_LIMIT: [413, 'too_many_parts', 'There are more parts in this request than are accepted at once.'],
  FST_FIELDS_LIMIT: [
    413,
    'too_many_fields',
    'There are more fields in this request than are accepted at once.',
  ],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    415,
    'unsupported_media_type',
    'The content type of the body is not one that this route takes.',
  ],
  FST_PROTO_VIOLATION: [
    400,
    'malformed_multipart',
    'A field of this request has a name that no field may have.',
  ],
  FST_INVALID_MULTIPART_CONTENT_TYPE: [
    415,
    'unsupported_media_type',
    'This route takes multipart/form-data.',
  ],
  FST_ERR_CTP_INVALID_JSON_BODY: [400, 'malformed_json', 'The body is not valid JSON.'],
  FST_ERR_CTP_EMPTY_JSON_BODY: [400, 'malformed_json', 'The body is empty, but is said to be JSON.'],
};

const BUSY = 'Somebody else changed the same thing at the same moment. Try again.';
const LOST = 'The connection to the database was lost. Try again in a moment.';
const UNREACHABLE = 'The database cannot be reached. Try again in a moment.';
const RESTARTING = 'The database is restarting. Try again in a moment.';
const OVERLOADED = 'The database is busy. Try again in a moment.';

/** Faults of the database that pass: https://www.postgresql.org/docs/17/errcodes-appendix.html and Node's own. */
const DATABASE_PROBLEMS: Record<string, [code: string, detail: string]> = {
  '25006': ['database_unavailable', 'The database takes no changes at present. Try again in a moment.'],
  '25P03': ['timeout', 'The database took too long.'],
  '40001': ['busy', BUSY],
  '40P01': ['busy', BUSY],
  '53100': ['storage_full', 'There is no room for changes at present. Try again later.'],
  '53200': ['database_unavailable', OVERLOADED],
  '53300': ['database_unavailable', OVERLOADED],
  '53400': ['database_unavailable', OVERLOADED],
  '55P03': ['busy', BUSY],
  '57014': ['timeout', 'The database took too long.'],
  '57P01': ['database_unavailable', RESTARTING],
  '57P02': ['database_unavailable', RESTARTING],
  '57P03': ['database_unavailable', 'The database is starting. Try again in a moment.'],
  '57P05': ['database_unavailable', LOST],
  '58030': ['database_unavailable', UNREACHABLE],
  ECONNREFUSED: ['database_unavailable', UNREACHABLE],
  ECONNRESET: ['database_unavailable', LOST],
  EPIPE: ['database_unavailable', LOST],
  ETIMEDOUT: ['database_unavailable', UNREACHABLE],
  EHOSTUNREACH: ['database_unavailable', UNREACHABLE],
  ENETUNREACH: ['database_unavailable', UNREACHABLE],
  EAI_AGAIN: ['database_unavailable', UNREACHABLE],
  ENOSPC: ['storage_full', 'There is no room for files at present. Try again later.'],
};

/** Class 08 of PostgreSQL's codes: the connection. */
const CONNECTION_EXCEPTION = /^08\w{3}$/;

/** What node-postgres and its pool say of a connection that is gone, or does not come: errors without a code. */
const LOST_CONNECTION =
  /^(?:Connection terminated|Client (?:was closed|has encountered a connection error)|timeout exceeded when trying to connect|timeout expired|Query read timeout)/;

/** The code and sentence for a fault of the database that passes; undefined where it is none. */
function databaseProblem(sqlState: string, error: unknown): [code: string, detail: string] | undefined {
  const known = DATABASE_PROBLEMS[sqlState];
  if (known) return known;
  const isLost =
    CONNECTION_EXCEPTION.test(sqlState) || (error instanceof Error && LOST_CONNECTION.test(error.message));
  return isLost ? ['database_unavailable', LOST] : undefined;
}

/**
 * Whether the database refused a row because its grants are not (or no longer) held: between the permission that was asked
 * and the row lies a moment in which somebody can take it. Of the tenant's own policy it is a fault, and stays one.
 */
function isClosedMeanwhile(sqlState: string, error: unknown): boolean {
  return sqlState === '42501' && error instanceof Error && error.message.includes('granted_access');
}

/** What is answered where this is thrown. What nobody has foreseen is written to the log, and tells nothing. */
export function toProblem(error: unknown, logger: Logger): Problem {
  if (error instanceof Problem) return error;
  // What the JSON parser says quotes the body.
  if (error instanceof SyntaxError) return new Problem(400, 'malformed_json', 'The body is not valid JSON.');
  const fastify = error as Partial<FastifyLikeError>;
  const known = typeof fastify?.code === 'string' ? FASTIFY_PROBLEMS[fastify.code] : undefined;
  if (known) return new Problem(...known);
  if (error instanceof HttpException) return fromHttpException(error, logger);
  if (typeof fastify?.statusCode === 'number' && fastify.statusCode >= 400 && fastify.statusCode < 500) {
    return fromStatus(fastify.statusCode);
  }
  const sqlState =
    (error as { driverError?: { code?: string } } | null)?.driverError?.code ?? fastify?.code ?? '';
  if (sqlState === '23505')
    return Problem.conflict('conflict', 'Somebody else made the same thing at the same moment.');
  if (sqlState === '23503')
    return new Problem(404, 'not_found', 'What this belongs to was deleted meanwhile.');
  if (isClosedMeanwhile(sqlState, error)) {
    // A warning: where no grant was taken a moment ago, a check of ours is missing.
    logger.warn(error);
    return new Problem(404, 'not_found', 'What this belongs to is not open to you any more.');
  }
  const database = databaseProblem(sqlState, error);
  if (database) {
    logger.warn(error);
    return Problem.unavailable(...database);
  }
  logger.error(error);
  return new Problem(
    500,
    'internal_error',
    'Something went wrong on our side. The request id names it in the log.',
  );
}

function fromHttpException(error: HttpException, logger: Logger): Problem {
  // Nest wraps what Fastify throws, and keeps its code only here.
  if (error.cause) return toProblem(error.cause, logger);
  const status = error.getStatus();
  if (status === 404) return new Problem(404, 'not_found', 'There is no such route or resource.');
  return fromStatus(status);
}

function fromStatus(status: number): Problem {
  const code = titleOf(status).toLowerCase().replaceAll(' ', '_');
  return new Problem(status, code, `${titleOf(status)}.`);
}
