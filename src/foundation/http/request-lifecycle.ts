import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { Problem } from './problem.js';
import { sendProblem } from './problem.filter.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Aborts when the client goes away or the request has taken too long. */
    abort: AbortController;
    /** Called once the request has ended: see {@link onEnd}. */
    endings: Array<() => void>;
  }
}

/** What to say of a request in its log line, beyond what the request itself tells. */
export type LogFields = (request: FastifyRequest) => Record<string, unknown>;

/** Aborts when the client goes away or the request has taken too long: hand it to whatever waits. */
export const RequestSignal = createParamDecorator(
  (_: unknown, context: ExecutionContext): AbortSignal =>
    context.switchToHttp().getRequest<FastifyRequest>().abort.signal,
);

/** Calls `work` once the request has ended, however it did: at once where it has, because whoever asked is gone. */
export function onEnd(request: FastifyRequest, reply: FastifyReply, work: () => void): void {
  if (reply.raw.closed || reply.raw.destroyed) work();
  else request.endings.push(work);
}

/**
 * What every request gets: an id, an end (a time limit, a client that left, a server that drains) and a log line.
 *
 * @param options.timeout in milliseconds
 * @returns stops taking requests; those under way go on
 */
export function manageRequests(
  fastify: FastifyInstance,
  options: { timeout: number; logger: Logger; logFields: LogFields },
): { drain(): void } {
  let draining = false;
  fastify.decorateRequest('abort');
  fastify.decorateRequest('endings');

  fastify.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done) => {
    request.abort = new AbortController();
    request.endings = [];
    void reply.header('x-request-id', request.id);
    if (draining) {
      void reply.header('connection', 'close');
      sendProblem(
        Problem.unavailable('draining', 'This process is shutting down. Try again.', 1),
        request,
        reply,
      );
      return;
    }
    const timer = setTimeout(() => {
      // A stream goes on as long as somebody reads it.
      if (reply.raw.headersSent) {
        requireReader(reply.raw, options.timeout);
        return;
      }
      sendProblem(Problem.unavailable('timeout', 'The request took too long.'), request, reply);
      request.abort.abort(new Problem(503, 'timeout', 'The request took too long.'));
    }, options.timeout);
    reply.raw.once('close', () => {
      clearTimeout(timer);
      if (!reply.raw.writableFinished)
        request.abort.abort(new Problem(499, 'client_gone', 'The client went away.'));
      // One listener for all: a response that is a stream has many already, and warns of more than ten.
      for (const ending of request.endings) ending();
    });
    done();
  });

  fastify.addHook('onResponse', (request, reply, done) => {
    options.logger.info(
      {
        context: 'http',
        request_id: request.id,
        method: request.method,
        path: loggedPath(request.url),
        route: request.routeOptions.url,
        status: reply.statusCode,
        duration_ms: Math.round(reply.elapsedTime * 100) / 100,
        ip: request.ip,
        ...options.logFields(request),
      },
      `${request.method} ${reply.statusCode}`,
    );
    done();
  });

  return {
    drain() {
      draining = true;
    },
  };
}

/**
 * Ends an answer that its client has stopped to take: nothing is said or taken for so long, or in as long not even what
 * was written at once, which is 64 kB of a file. A few bytes now and then would hold it for ever.
 *
 * @param period milliseconds
 */
export function requireReader(answer: ServerResponse, period: number): void {
  answer.setTimeout(period, () => answer.destroy());
  const state = () => ({
    waiting: answer.writableLength > 0,
    taken: (answer.socket?.bytesWritten ?? 0) - (answer.socket?.writableLength ?? 0),
  });
  let before = state();
  const timer = setInterval(() => {
    const now = state();
    if (before.waiting && now.waiting && now.taken === before.taken) answer.destroy();
    before = now;
  }, period);
  timer.unref();
  answer.once('close', () => clearInterval(timer));
}

/** Without the query, in which somebody may have put a secret, and without what may be a token in the path: ids are shorter. */
const loggedPath = (url: string): string =>
  (url.split('?', 1)[0] as string).replace(/(?<=\/)[^/]{40,}(?=\/|$)/g, '[hidden]');
