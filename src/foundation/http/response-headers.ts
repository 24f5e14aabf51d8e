import fastifyHelmet from '@fastify/helmet';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** For a page to read the API document: its own scripts, and nothing from anybody else. */
const POLICY_OF_PAGES = [
  "default-src 'self'",
  "script-src 'self'",
  "script-src-attr 'none'",
  // Swagger UI writes styles into its page.
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "object-src 'none'",
  "base-uri 'self'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join(';');

/**
 * What every answer tells browsers and caches. Answers are for programs: whatever a browser takes one for, it may load
 * and run nothing. What an answer holds is somebody's: nobody may keep it, but where its route says otherwise.
 *
 * @param pages the path below which there are pages that people look at
 */
export async function protectAnswers(nest: NestFastifyApplication, pages: string): Promise<void> {
  const fastify = nest.getHttpAdapter().getInstance();
  const isPage = ({ url }: FastifyRequest) => {
    const path = url.split('?', 1)[0] as string;
    return path === pages || path.startsWith(`${pages}/`);
  };
  fastify.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done) => {
    if (!isPage(request)) void reply.header('cache-control', 'no-store');
    done();
  });
  await nest.register(fastifyHelmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        'default-src': ["'none'"],
        'base-uri': ["'none'"],
        'form-action': ["'none'"],
        'frame-ancestors': ["'none'"],
      },
    },
    xFrameOptions: { action: 'deny' },
  });
  fastify.addHook('onSend', (request: FastifyRequest, reply: FastifyReply, _payload, done) => {
    if (isPage(request)) void reply.header('content-security-policy', POLICY_OF_PAGES);
    done();
  });
}
