import type { LookupAddress, LookupAllOptions } from 'node:dns';
import { type LookupFunction, isIP } from 'node:net';
import { buildConnector } from 'undici';
import { OutboundError } from './outbound-error.js';
import { isPublicAddress } from './public-address.js';

/** As `dns.lookup` with `all`. */
export type Resolve = (
  hostname: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Connects to public addresses only. What is checked is what is connected to: the addresses that a name resolves to go
 * to the socket right from here, so that a name cannot mean something else a moment later. An address that stands in the
 * URL itself is never looked up, and checked apart.
 *
 * @param timeout milliseconds, for the look-up, the connection and TLS
 */
export function guardedConnector(resolve: Resolve, timeout: number): buildConnector.connector {
  const connect = buildConnector({
    timeout,
    maxCachedSessions: 0,
    lookup: guardedLookup(resolve),
  });
  return (options, callback) => {
    if (isIP(options.hostname) !== 0 && !isPublicAddress(options.hostname)) {
      callback(new OutboundError('address_refused'), null);
      return;
    }
    connect(options, (error, socket) => {
      if (!error && !isPublicAddress(socket.remoteAddress ?? '')) {
        socket.destroy();
        callback(new OutboundError('address_refused'), null);
      } else if (error) callback(error, null);
      else callback(null, socket);
    });
  };
}

function guardedLookup(resolve: Resolve): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      const [first] = addresses ?? [];
      // A name with a private address beside a public one means to be found inside.
      if (error || !first || !addresses.every(({ address }) => isPublicAddress(address))) {
        callback(new OutboundError('address_refused', { cause: error ?? undefined }), []);
      } else if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}
