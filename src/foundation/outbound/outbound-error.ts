/** Why a request to somebody else's server came to nothing. Stable, for programs. */
export type OutboundFault =
  | 'invalid_url'
  | 'unsupported_scheme'
  | 'https_required'
  | 'credentials_in_url'
  | 'port_refused'
  | 'address_refused'
  | 'connection_failed'
  | 'tls_failed'
  | 'timeout'
  | 'invalid_request'
  | 'invalid_answer'
  | 'answer_too_large'
  | 'too_many_redirects';

/** What it means, for people; the same whatever is behind the address. */
const MEANINGS: Record<OutboundFault, string> = {
  invalid_url: 'The address is not valid.',
  unsupported_scheme: 'The address must start with https:// or http://.',
  https_required: 'The address must start with https://.',
  credentials_in_url: 'The address must not hold a user name or a password.',
  port_refused: 'The address names a port that no web server uses.',
  // One code for a name that nobody knows and one that is private: which names a private network has is its own business.
  address_refused: 'The host of the address is not a public one that can be found.',
  connection_failed: 'The server could not be reached.',
  tls_failed: 'No secure connection to the server could be made.',
  timeout: 'The server took too long.',
  invalid_request: 'The request cannot be sent like this.',
  invalid_answer: 'The server’s answer is not valid HTTP.',
  answer_too_large: 'The server’s answer is too large.',
  too_many_redirects: 'The server redirects too often.',
};

/** A request to an address that a tenant gave did not succeed. Neither code nor message tell where it went. */
export class OutboundError extends Error {
  override readonly name = 'OutboundError';

  constructor(
    readonly code: OutboundFault,
    options?: ErrorOptions,
  ) {
    super(MEANINGS[code], options);
  }
}
