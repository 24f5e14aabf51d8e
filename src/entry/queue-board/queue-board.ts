import { createBullBoard } from '@bull-board/api';
import { BullAdapter } from '@bull-board/api/bullAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import { getQueueToken } from '@nestjs/bull';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Queue } from 'bull';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { JOBS_QUEUE, OUTBOUND_JOBS_QUEUE } from '../../core/jobs/background-jobs.service.js';
import { INGESTION_QUEUE } from '../../features/documents/ingestion-queue.js';
import { sendProblem } from '../../foundation/http/problem.filter.js';
import { Problem } from '../../foundation/http/problem.js';
import { BOARD_PATH, BoardSessions } from './board-sessions.service.js';
import { noBoard } from './queue-board.controller.js';

const QUEUES = [INGESTION_QUEUE, JOBS_QUEUE, OUTBOUND_JOBS_QUEUE];

/** What the board's page loads: its own files, and nothing from anybody else (it names fonts of Google's). */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'self'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/**
 * The board of the queues on Redis, for reading. Its routes are the library's, past Nest and its guards: each request is
 * asked about here, and whatever else stands under the path is closed with them.
 *
 * @param onRedis else there is none, and the path says so
 */
export async function serveQueueBoard(nest: NestFastifyApplication, onRedis: boolean): Promise<void> {
  const fastify = nest.getHttpAdapter().getInstance();
  if (!onRedis) {
    for (const path of [BOARD_PATH, `${BOARD_PATH}/*`]) {
      fastify.get(path, (request, reply) => sendProblem(noBoard(), request, reply));
    }
    return;
  }
  const sessions = nest.get(BoardSessions, { strict: false });
  const adapter = new FastifyAdapter().setBasePath(BOARD_PATH);
  createBullBoard({
    queues: QUEUES.map(
      name =>
        new BullAdapter(nest.get<Queue>(getQueueToken(name), { strict: false }), { readOnlyMode: true }),
    ),
    serverAdapter: adapter,
    options: { uiConfig: { boardTitle: 'Enclave queues', hideRedisDetails: true } },
  });
  await fastify.register(
    async scope => {
      scope.addHook('onRequest', async (request: FastifyRequest, reply: FastifyReply) => {
        const refusal = await refusalOf(request, sessions);
        if (refusal) return sendProblem(refusal, request, reply);
        void reply.headers({
          'content-security-policy': CONTENT_SECURITY_POLICY,
          'cache-control': 'no-store',
        });
      });
      await scope.register(adapter.registerPlugin());
    },
    { prefix: BOARD_PATH },
  );
}

async function refusalOf(request: FastifyRequest, sessions: BoardSessions): Promise<Problem | null> {
  const allowed = await sessions.mayOpen(request.headers.cookie);
  if (allowed === null) {
    return Problem.unauthorized(
      'unauthorized',
      'The board needs a cookie of POST /api/v1/platform/queues/session, which is good for 15 minutes.',
    );
  }
  if (!allowed) return Problem.forbidden('This needs the permission platform:analytics.');
  const reads = request.method === 'GET' || request.method === 'HEAD';
  return reads ? null : Problem.forbidden('The board is for reading.', 'read_only');
}
