import { describe, expect, it } from 'vitest';
import { apiTokenOf } from './api-token-header.js';

describe('the API token of a request', () => {
  it.each<[string, Record<string, string>, string | null]>([
    ['none', {}, null],
    ['an access token', { authorization: 'Bearer eyJ.x.y' }, null],
    ['another scheme', { authorization: 'Basic rk_live_x' }, null],
    ['as Bearer', { authorization: 'Bearer rk_live_x' }, 'rk_live_x'],
    ['as Bearer, however that is written', { authorization: 'bEARER   rk_live_x' }, 'rk_live_x'],
    ['as X-API-Key', { 'x-api-key': 'rk_live_x' }, 'rk_live_x'],
    ['as both', { authorization: 'Bearer rk_live_x', 'x-api-key': 'rk_live_x' }, 'rk_live_x'],
    ['what is none, as X-API-Key', { 'x-api-key': '' }, ''],
  ])('%s', (_, headers, token) => expect(apiTokenOf(headers)).toBe(token));

  it.each<[string, string]>([
    ['Bearer rk_live_x', 'rk_live_y'],
    ['Bearer eyJ.x.y', 'rk_live_x'],
    ['Basic x', 'rk_live_x'],
    ['', 'rk_live_x'],
  ])('is refused where there are two: %s and %s', (authorization, key) => {
    expect(() => apiTokenOf({ authorization, 'x-api-key': key })).toThrow(
      expect.objectContaining({ status: 400, code: 'credential_mismatch' }),
    );
  });
});
