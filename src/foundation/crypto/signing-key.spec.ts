import { describe, expect, it } from 'vitest';
import { SigningKey, fingerprintOf, isSignedBy } from './signing-key.js';

const SECRET = 'a key of the installation, long enough for it';
const key = SigningKey.of(SECRET);
const value = { b: [1, 2, 'größte'], a: { y: null, x: true } };

describe('a signing key', () => {
  it('is always the same for a secret, and another for another', () => {
    expect(SigningKey.of(SECRET).publicJwk).toEqual(key.publicJwk);
    expect(SigningKey.of(SECRET).sign(value)).toBe(key.sign(value));
    expect(SigningKey.of(`${SECRET}!`).fingerprint).not.toBe(key.fingerprint);
    expect(key.fingerprint).toMatch(/^[\w-]{43}$/);
  });

  it('shows nothing of the secret', () => {
    expect(JSON.stringify(key.publicJwk)).not.toContain(SECRET);
    expect(Object.keys(key.publicJwk)).toEqual(['kty', 'crv', 'x']);
  });

  it('signs a value whatever the order of its fields', () => {
    const signature = key.sign(value);
    expect(isSignedBy(key.publicJwk, { a: { x: true, y: null }, b: [1, 2, 'größte'] }, signature)).toBe(true);
  });

  it.each([
    ['another value', key.publicJwk, { ...value, a: 1 }, key.sign(value)],
    ['another order of a list', key.publicJwk, { ...value, b: [2, 1, 'größte'] }, key.sign(value)],
    ['another key', SigningKey.of(`${SECRET}!`).publicJwk, value, key.sign(value)],
    ['no signature', key.publicJwk, value, ''],
    ['what is no key', { kty: 'OKP', crv: 'Ed25519', x: 'AA' } as const, value, key.sign(value)],
    ['nothing', key.publicJwk, undefined, key.sign(value)],
  ])('is not seen in %s', (_, jwk, signed, signature) => {
    expect(isSignedBy(jwk, signed, signature)).toBe(false);
  });

  it('has the thumbprint of RFC 8037, appendix A.3', () => {
    const x = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo';
    expect(fingerprintOf({ kty: 'OKP', crv: 'Ed25519', x })).toBe(
      'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k',
    );
  });
});
