import canonicalize from 'canonicalize';
import type { FastifyRequest } from 'fastify';
import { createHash, createHmac } from 'node:crypto';
import { Problem } from '../../foundation/http/problem.js';

const KEY = /^[\x21-\x7e]{1,255}$/;

/**
 * Reads the header. The draft has a string of structured fields, in quotes; most clients send it bare. Both are the same
 * key.
 *
 * @throws Problem 400 `malformed_idempotency_key`
 */
export function readIdempotencyKey(header: string | string[]): string {
  const text = String(header);
  const key = /^"(.*)"$/.exec(text)?.[1] ?? text;
  if (KEY.test(key)) return key;
  throw Problem.malformed(
    'malformed_idempotency_key',
    'An Idempotency-Key is given once, and has 1 to 255 visible ASCII characters.',
  );
}

/** Whose key it is, and where: the same word of somebody else, or in another tenant, is another key. */
export function keyId(principalId: string, tenantId: string | null, key: string): Buffer {
  return createHash('sha256')
    .update(`${principalId}\n${tenantId ?? ''}\n${key}`)
    .digest();
}

/**
 * What the key was used for: method, address and body. JSON counts in its canonical form (RFC 8785), so that the order of
 * its fields does not matter. Files have not been read yet: of multipart/form-data the declared length counts alone.
 *
 * @param secret without which nobody can try out what the body was: there may be a password in it
 */
export function fingerprintOf(request: FastifyRequest, secret: Buffer): Buffer {
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase();
  const body = type?.startsWith('multipart/')
    ? `length ${request.headers['content-length'] ?? 'unknown'}`
    : canonical(request.body);
  return createHmac('sha256', secret).update(`${request.method}\n${request.url}\n${type}\n${body}`).digest();
}

function canonical(body: unknown): string {
  if (body === undefined || body === null) return '';
  try {
    return canonicalize(body) ?? '';
  } catch {
    // A number so large that it was read as infinity: no schema takes it, but it must not be an error of ours.
    return JSON.stringify(body);
  }
}
