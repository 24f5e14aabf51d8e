import fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import { expect, it } from 'vitest';
import { newWebhookSecret, signatureHeaders } from './webhook-signature.js';

it('makes secrets of 256 bits, each another', () => {
  const secrets = Array.from({ length: 100 }, newWebhookSecret);
  expect(new Set(secrets).size).toBe(100);
  for (const secret of secrets) {
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(Buffer.from(secret.slice(6), 'base64')).toHaveLength(32);
  }
});

it('signs as the standard’s own example says', () => {
  const headers = signatureHeaders(
    'msg_p5jXN8AQM9LWM0D4loKWxJek',
    1_614_265_330_000,
    '{"test": 2432232314}',
    ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
  );
  expect(headers).toEqual({
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  });
});

it('signs so that others can verify it, with each of several secrets and no other', () => {
  fc.assert(
    fc.property(fc.uuid(), fc.json({ stringUnit: 'grapheme' }), (id, body) => {
      const secrets = [newWebhookSecret(), newWebhookSecret()];
      const headers = signatureHeaders(id, Date.now(), body, secrets);
      for (const secret of secrets)
        expect(new Webhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
      expect(() => new Webhook(newWebhookSecret()).verify(body, headers)).toThrow('No matching signature');
      expect(() => new Webhook(secrets[0] as string).verify(`${body} `, headers)).toThrow(
        'No matching signature',
      );
    }),
  );
});
