import ipaddr from 'ipaddr.js';

/**
 * Whom an address stands for. Of IPv6 whoever has one has a whole /64 (RFC 6177): counted one by one they would have no
 * limit.
 */
export function addressKey(ip: string): string {
  if (!ipaddr.isValid(ip)) return ip;
  const address = ipaddr.process(ip);
  if (address.kind() === 'ipv4') return address.toString();
  const network = (address as ipaddr.IPv6).parts.slice(0, 4).map(part => part.toString(16));
  return `${network.join(':')}::/64`;
}
