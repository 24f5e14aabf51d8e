import { Injectable } from '@nestjs/common';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PLATFORM_DOMAIN } from '../../core/authorization/permissions.js';
import { SessionsService } from '../authentication/sessions.service.js';

export const BOARD_PATH = '/admin/queues';
/** Seconds. */
export const BOARD_SESSION_TTL = 900;
const COOKIE = 'enclave_queues';
const KEY_PURPOSE = 'enclave queue board';

/**
 * Lets a browser, which sends no Authorization header of its own, open the board of the queues: a signed cookie that names
 * the session it was made in. What it opens is asked for anew with every request.
 */
@Injectable()
export class BoardSessions {
  private readonly key: Buffer;

  /** @param secret that access tokens are signed with; the cookie is none, and signed with another that is made of it */
  constructor(
    secret: string,
    private readonly sessions: SessionsService,
    private readonly authorization: AuthorizationService,
  ) {
    this.key = createHmac('sha256', secret).update(KEY_PURPOSE).digest();
  }

  /** The header `Set-Cookie`. @param secure whether the browser came over TLS */
  cookieFor(user: { id: string; sessionId: string }, secure: boolean, now = new Date()): string {
    const ends = Math.floor(now.getTime() / 1000) + BOARD_SESSION_TTL;
    const content = [user.id, user.sessionId, ends].join('.');
    return [
      `${COOKIE}=${content}.${this.sign(content)}`,
      `Path=${BOARD_PATH}`,
      `Max-Age=${BOARD_SESSION_TTL}`,
      'HttpOnly',
      'SameSite=Strict',
      ...(secure ? ['Secure'] : []),
    ].join('; ');
  }

  /** @param cookies the header `Cookie`. Whether its holder may see the queues now: null where nobody is known by it. */
  async mayOpen(cookies: string | undefined, now = new Date()): Promise<boolean | null> {
    const user = this.read(cookies, now);
    if (!user || !(await this.sessions.validState(user.sessionId, user.id))) return null;
    return this.authorization.can(user.id, PLATFORM_DOMAIN, 'platform:analytics');
  }

  private read(cookies: string | undefined, now: Date): { id: string; sessionId: string } | null {
    const value = cookies
      ?.split(';')
      .map(cookie => cookie.trim())
      .find(cookie => cookie.startsWith(`${COOKIE}=`))
      ?.slice(COOKIE.length + 1);
    const parts = value?.split('.') ?? [];
    const [id, sessionId, ends, signature] = parts;
    if (parts.length !== 4 || !id || !sessionId || !signature) return null;
    const expected = Buffer.from(this.sign([id, sessionId, ends].join('.')));
    const given = Buffer.from(signature);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
    return Number(ends) * 1000 > now.getTime() ? { id, sessionId } : null;
  }

  private sign(content: string): string {
    return createHmac('sha256', this.key).update(content).digest('base64url');
  }
}
