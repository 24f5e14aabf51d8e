import ipaddr from 'ipaddr.js';

/** What is handed out to the world (RFC 4291, 2.4; IANA's registry): all that IPv6 has for public unicast so far. */
const GLOBAL_UNICAST: [ipaddr.IPv6, number] = [ipaddr.IPv6.parse('2000::'), 3];

/**
 * Whether an IP address is one machine in the public internet: no private, loopback, link-local, shared, multicast,
 * documentation or reserved one (IANA's special-purpose registries), and none that carries an IPv4 address inside
 * (mapped, NAT64, 6to4, Teredo), which a gateway would unpack behind our back.
 *
 * @param address as the system writes it; what is no IP address is not public
 */
export function isPublicAddress(address: string): boolean {
  if (ipaddr.IPv4.isValidFourPartDecimal(address)) return ipaddr.IPv4.parse(address).range() === 'unicast';
  if (!ipaddr.IPv6.isValid(address)) return false;
  const parsed = ipaddr.IPv6.parse(address);
  return parsed.range() === 'unicast' && parsed.match(GLOBAL_UNICAST);
}
