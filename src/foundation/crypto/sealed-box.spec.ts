import { describe, expect, it } from 'vitest';
import { SealError, SealedBox } from './sealed-box.js';

const OLD = 'the old key of the installation, long enough';
const NEW = 'the new key of the installation, long enough';

describe('a sealed box', () => {
  const box = new SealedBox([OLD]);

  it('opens what it sealed, each time sealed differently', () => {
    const sealed = box.seal('größte 秘密', 'tenant/name');
    expect(box.open(sealed, 'tenant/name')).toBe('größte 秘密');
    expect(box.seal('größte 秘密', 'tenant/name')).not.toEqual(sealed);
    expect(sealed.toString('latin1')).not.toContain('gr');
    expect(box.open(box.seal('', 'x'), 'x')).toBe('');
  });

  it('does not open what was put elsewhere', () => {
    expect(() => box.open(box.seal('secret', 'a'), 'b')).toThrow(SealError);
  });

  it('does not open what was changed, in any of its bytes', () => {
    const sealed = box.seal('secret', 'a');
    for (let i = 0; i < sealed.length; i++) {
      const changed = Buffer.from(sealed);
      changed[i] = (changed[i] as number) ^ 1;
      expect(() => box.open(changed, 'a'), `byte ${i}`).toThrow(SealError);
    }
    for (const length of [0, 1, 20, sealed.length - 1]) {
      expect(() => box.open(sealed.subarray(0, length), 'a'), `${length} bytes`).toThrow(SealError);
    }
  });

  it('opens what an old key sealed, and seals with the new one', () => {
    const old = box.seal('secret', 'a');
    const rotated = new SealedBox([NEW, OLD]);
    expect(rotated.open(old, 'a')).toBe('secret');
    expect(rotated.isCurrent(old)).toBe(false);
    const resealed = rotated.renew(old, 'a') as Buffer;
    expect(rotated.isCurrent(resealed)).toBe(true);
    expect(new SealedBox([NEW]).open(resealed, 'a')).toBe('secret');
    expect(() => new SealedBox([NEW]).open(old, 'a')).toThrow(/not among those of the settings/);
    expect(new SealedBox([NEW]).renew(old, 'a')).toBeNull();
    expect(rotated.renew(old, 'elsewhere')).toBeNull();
  });
});
