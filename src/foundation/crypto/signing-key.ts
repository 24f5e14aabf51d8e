import {
  type KeyObject,
  createHash,
  createPrivateKey,
  createPublicKey,
  hkdfSync,
  sign,
  verify,
} from 'node:crypto';
import canonicalize from 'canonicalize';

/** PKCS #8 of an Ed25519 key up to its 32 bytes (RFC 8410, 7). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const SEED_BYTES = 32;
/** What the key is for: under another name the same setting gives another key. */
const PURPOSE = 'enclave isolation report signature';

/** A public Ed25519 key (RFC 8037). */
export interface PublicJwk {
  kty: 'OKP';
  crv: 'Ed25519';
  /** The key, base64url. */
  x: string;
}

/**
 * Signs in the name of the installation: Ed25519 (RFC 8032), whose seed is made of the key that the installation seals
 * with (HKDF-SHA256, RFC 5869). Who has the public key can tell what this installation has signed, and from what it has not.
 */
export class SigningKey {
  private constructor(
    private readonly key: KeyObject,
    readonly publicJwk: PublicJwk,
  ) {}

  /** @param secret `ENCRYPTION_KEY` */
  static of(secret: string): SigningKey {
    const seed = Buffer.from(hkdfSync('sha256', secret, '', PURPOSE, SEED_BYTES));
    const key = createPrivateKey({
      key: Buffer.concat([PKCS8_PREFIX, seed]),
      format: 'der',
      type: 'pkcs8',
    });
    const { x } = createPublicKey(key).export({ format: 'jwk' });
    return new SigningKey(key, { kty: 'OKP', crv: 'Ed25519', x: x as string });
  }

  get fingerprint(): string {
    return fingerprintOf(this.publicJwk);
  }

  /** Of the value in its canonical form (RFC 8785). @returns base64url */
  sign(value: unknown): string {
    return sign(null, bytesOf(value), this.key).toString('base64url');
  }
}

/** Thumbprint of the key (RFC 7638): SHA-256, base64url. */
export const fingerprintOf = ({ crv, kty, x }: PublicJwk): string =>
  createHash('sha256').update(JSON.stringify({ crv, kty, x })).digest('base64url');

/** Whether the holder of the key has signed exactly this value. False, too, for what is no key or no signature. */
export function isSignedBy(key: PublicJwk, value: unknown, signature: string): boolean {
  try {
    const publicKey = createPublicKey({ key: { kty: key.kty, crv: key.crv, x: key.x }, format: 'jwk' });
    if (publicKey.asymmetricKeyType !== 'ed25519') return false;
    return verify(null, bytesOf(value), publicKey, Buffer.from(signature, 'base64url'));
  } catch {
    return false;
  }
}

function bytesOf(value: unknown): Buffer {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError('There is nothing to sign.');
  return Buffer.from(text, 'utf8');
}
