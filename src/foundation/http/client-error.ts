import type { Socket } from 'node:net';
import { v7 as uuidv7 } from 'uuid';
import { Problem } from './problem.js';
import { toProblemDocument } from './problem.filter.js';

/** Answers bytes that Node's HTTP parser gave up on: there is no request yet that a filter could answer. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = problemOf(error.code);
  const body = JSON.stringify(toProblemDocument(problem, { url: '/', id: uuidv7() }));
  socket.end(
    `HTTP/1.1 ${problem.status} \r\ncontent-type: application/problem+json; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

function problemOf(code: string | undefined): Problem {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new Problem(
        431,
        'headers_too_large',
        'The address and the headers of this request are too large.',
      );
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Problem(408, 'request_timeout', 'The request took too long to arrive.');
    default:
      return Problem.malformed('malformed_http', 'This is no HTTP request.');
  }
}
