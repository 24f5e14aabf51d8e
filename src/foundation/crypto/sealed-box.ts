import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';

/** What was sealed cannot be opened: its key is not among those of the settings, or somebody has changed it. */
export class SealError extends Error {
  override readonly name = 'SealError';
}

const VERSION = 1;
const KEY_ID_BYTES = 8;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

interface Key {
  id: Buffer;
  key: Buffer;
}

/**
 * Seals secrets that have to be read again: AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce. A sealed value is
 * version (1 byte) · key id (8) · nonce (12) · tag (16) · ciphertext; the key id says which of several keys opens it, so
 * that a new key can be used while values under an old one still stand.
 */
export class SealedBox {
  private readonly current: Key;
  private readonly keys: Key[];

  /** @param secrets texts of which keys are made; the first seals, all of them open */
  constructor(secrets: readonly [string, ...string[]]) {
    this.keys = secrets.map(keyOf);
    this.current = this.keys[0] as Key;
  }

  /**
   * @param context what the value belongs to, such as a tenant and a name: put elsewhere, it does not open
   */
  seal(plaintext: string, context: string): Buffer {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.current.key, nonce);
    const header = Buffer.concat([Buffer.from([VERSION]), this.current.id]);
    cipher.setAAD(Buffer.concat([header, Buffer.from(context, 'utf8')]));
    const ciphertext = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()]);
    return Buffer.concat([header, nonce, cipher.getAuthTag(), ciphertext]);
  }

  /** @throws SealError */
  open(sealed: Buffer, context: string): string {
    const header = sealed.subarray(0, 1 + KEY_ID_BYTES);
    const id = header.subarray(1);
    const key = this.keys.find(candidate => candidate.id.equals(id));
    if (header[0] !== VERSION || !key) {
      throw new SealError('A sealed value was sealed with a key that is not among those of the settings.');
    }
    const nonce = sealed.subarray(header.length, header.length + NONCE_BYTES);
    const tag = sealed.subarray(header.length + NONCE_BYTES, header.length + NONCE_BYTES + TAG_BYTES);
    try {
      const decipher = createDecipheriv('aes-256-gcm', key.key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(Buffer.concat([header, Buffer.from(context, 'utf8')]));
      decipher.setAuthTag(tag);
      const ciphertext = sealed.subarray(header.length + NONCE_BYTES + TAG_BYTES);
      return Buffer.concat([decipher.update(ciphertext), decipher.final()]).toString('utf8');
    } catch (error) {
      throw new SealError('A sealed value was changed, or belongs somewhere else.', { cause: error });
    }
  }

  /** The same value under the key that seals new ones; null where no key of the settings opens it. */
  renew(sealed: Buffer, context: string): Buffer | null {
    try {
      return this.seal(this.open(sealed, context), context);
    } catch (error) {
      if (error instanceof SealError) return null;
      throw error;
    }
  }

  /** Whether a value is sealed with the key that seals new ones. */
  isCurrent(sealed: Buffer): boolean {
    return sealed.subarray(1, 1 + KEY_ID_BYTES).equals(this.current.id);
  }
}

/** HKDF (RFC 5869): a setting is a text of any length, and serves for nothing else under the same name. */
function keyOf(secret: string): Key {
  const key = Buffer.from(hkdfSync('sha256', secret, '', 'enclave sealed box', 32));
  return { key, id: createHash('sha256').update(key).digest().subarray(0, KEY_ID_BYTES) };
}
