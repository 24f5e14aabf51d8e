import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPublicAddress } from './public-address.js';

/** Networks that are nobody's public address, as first address and bits (IANA's special-purpose registries). */
const PRIVATE_V4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];
const networks = PRIVATE_V4.map(text => {
  const [first, bits] = text.split('/') as [string, string];
  return { first: toNumber(first), size: 2 ** (32 - Number(bits)) };
});

function toNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}
const toAddress = (value: number): string =>
  [24, 16, 8, 0].map(shift => Math.floor(value / 2 ** shift) % 256).join('.');
const isPrivate = (value: number) =>
  networks.some(({ first, size }) => value >= first && value < first + size);
/** Anycast relays that the registry keeps out of ordinary use, too. */
const isSpecial = (value: number) =>
  ['192.31.196', '192.52.193', '192.175.48'].some(prefix => toAddress(value).startsWith(`${prefix}.`));
const hex = (value: number): string =>
  `${Math.floor(value / 65_536).toString(16)}:${(value % 65_536).toString(16)}`;

const anyV4 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const privateV4 = fc
  .tuple(fc.constantFrom(...networks), fc.nat())
  .map(([{ first, size }, offset]) => first + (offset % size));

describe('isPublicAddress', () => {
  it.each([
    '8.8.8.8',
    '1.1.1.1',
    '93.184.216.34',
    '172.15.255.255',
    '172.32.0.0',
    '2606:4700::1111',
    '2a00:1450::1',
  ])('takes %s', address => expect(isPublicAddress(address)).toBe(true));

  it.each([
    '127.0.0.1',
    '169.254.169.254',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:8.8.8.8',
    '::ffff:808:808',
    '::127.0.0.1',
    '::8.8.8.8',
    '64:ff9b::7f00:1',
    '64:ff9b::808:808',
    '64:ff9b:1::a00:1',
    '2002:7f00:1::',
    '2002:808:808::1',
    '2001:0:4136:e378::1',
    '2001:db8::1',
    '3fff::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'fe80::1%eth0',
    'fec0::1',
    'ff02::1',
    '100::1',
    '4000::1',
    '5f00::1',
    '2001:2::1',
    '2001:20::1',
  ])('refuses %s', address => expect(isPublicAddress(address)).toBe(false));

  it.each([
    '',
    'localhost',
    'example.com',
    '127.1',
    '0x7f.0.0.1',
    '017700000001',
    '2130706433',
    '8.8.8',
    '08.8.8.8',
    '8.8.8.8.',
  ])('refuses %j, which is no address as the system writes it', text =>
    expect(isPublicAddress(text)).toBe(false),
  );

  it('refuses every address of private networks, alone and inside of IPv6', () => {
    fc.assert(
      fc.property(privateV4, value => {
        expect(isPublicAddress(toAddress(value))).toBe(false);
        for (const prefix of ['::ffff:', '::', '64:ff9b::', '64:ff9b:1::'])
          expect(isPublicAddress(`${prefix}${hex(value)}`), prefix).toBe(false);
        expect(isPublicAddress(`2002:${hex(value)}::1`)).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  it('takes every other IPv4 address, and none inside of IPv6', () => {
    fc.assert(
      fc.property(
        anyV4.filter(value => !isPrivate(value) && !isSpecial(value)),
        value => {
          expect(isPublicAddress(toAddress(value))).toBe(true);
          expect(isPublicAddress(`::ffff:${toAddress(value)}`)).toBe(false);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('takes of IPv6 nothing but what is handed out', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 65_535 }), fc.ipV6(), (first, rest) => {
        const address = `${first.toString(16)}:${rest.split(':').slice(1).join(':')}`;
        expect(isPublicAddress(address) && first >> 13 !== 1, address).toBe(false);
      }),
    );
  });
});
