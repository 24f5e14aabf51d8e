import type { IncomingHttpHeaders } from 'node:http';
import { Problem } from '../../foundation/http/problem.js';

/** How API tokens begin, whatever their kind; access tokens begin otherwise. */
const MARK = 'rk_';

/**
 * The API token that a request brings, as `Authorization: Bearer …` or as `X-API-Key`; null where it brings none, but
 * perhaps another credential.
 *
 * @throws Problem 400 `credential_mismatch` where it brings two that are not the same
 */
export function apiTokenOf(headers: IncomingHttpHeaders): string | null {
  const { authorization } = headers;
  const bearer = authorization === undefined ? null : bearerOf(authorization);
  // Given twice it is one text with a comma, which is no token.
  const given = headers['x-api-key'];
  if (given === undefined) return bearer?.startsWith(MARK) ? bearer : null;
  const key = String(given);
  if (authorization === undefined || bearer === key) return key;
  throw Problem.malformed(
    'credential_mismatch',
    'Authorization and X-API-Key bring different credentials: send one of them.',
  );
}

/** As passport-jwt reads it. */
const bearerOf = (authorization: string): string | null =>
  /^bearer\s+(\S+)/i.exec(authorization)?.[1] ?? null;
