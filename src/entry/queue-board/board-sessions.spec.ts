import { beforeEach, expect, it, vi } from 'vitest';
import type { AuthorizationService } from '../../core/authorization/authorization.service.js';
import type { SessionsService } from '../authentication/sessions.service.js';
import { BoardSessions } from './board-sessions.service.js';

const USER = { id: 'user', sessionId: 'session' };
const NOW = new Date('2026-01-01T12:00:00Z');
const minutesLater = (minutes: number) => new Date(NOW.getTime() + minutes * 60_000);

const validState = vi.fn(async () => ({}) as object | null);
const can = vi.fn(async () => true);
const sessionsOf = (secret: string) =>
  new BoardSessions(
    secret,
    { validState } as unknown as SessionsService,
    { can } as unknown as AuthorizationService,
  );
const sessions = sessionsOf('a secret');
const cookie = sessions.cookieFor(USER, false, NOW).split(';')[0] as string;

beforeEach(() => vi.clearAllMocks());

it('is good for a quarter of an hour', async () => {
  expect(await sessions.mayOpen(cookie, minutesLater(14.9))).toBe(true);
  expect(await sessions.mayOpen(`theme=dark; ${cookie}; a=b`, NOW)).toBe(true);
  expect(await sessions.mayOpen(cookie, minutesLater(15))).toBeNull();
});

it('is the session’s, and needs the role of this moment', async () => {
  validState.mockResolvedValueOnce(null);
  expect(await sessions.mayOpen(cookie, NOW)).toBeNull();
  can.mockResolvedValueOnce(false);
  expect(await sessions.mayOpen(cookie, NOW)).toBe(false);
  expect(validState).toHaveBeenCalledWith('session', 'user');
});

it('is nobody’s where it was not made here', async () => {
  const others = sessionsOf('another secret').cookieFor(USER, false, NOW).split(';')[0];
  for (const forged of [undefined, '', others, `${cookie}x`, cookie.replace('user', 'root')]) {
    expect(await sessions.mayOpen(forged, NOW)).toBeNull();
  }
  expect(validState).not.toHaveBeenCalled();
});

it('goes over TLS alone where the browser came that way', () => {
  expect(sessions.cookieFor(USER, true, NOW)).toMatch(/; Secure$/);
});
