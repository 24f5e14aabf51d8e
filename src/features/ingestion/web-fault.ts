import { OutboundError, type OutboundFault } from '../../foundation/outbound/outbound-error.js';

export type WebFaultCode = 'fetch_failed' | 'robots_disallowed' | 'address_refused' | 'too_large';

/** A page of the web was not fetched. The message is a sentence for the person who asked for it. */
export class WebFault extends Error {
  override readonly name = 'WebFault';
  /** Whether another attempt may succeed. */
  readonly passing: boolean;
  /** Seconds after which to try again, where the server has said so. */
  readonly retryAfter: number | null;

  constructor(
    readonly code: WebFaultCode,
    message: string,
    {
      passing = false,
      retryAfter = null,
      cause,
    }: { passing?: boolean; retryAfter?: number | null; cause?: unknown } = {},
  ) {
    super(message, { cause });
    this.passing = passing;
    this.retryAfter = retryAfter;
  }
}

const REFUSED: readonly OutboundFault[] = ['address_refused', 'port_refused'];
const PASSING: readonly OutboundFault[] = ['connection_failed', 'timeout'];
const PASSING_STATUSES = [408, 425, 429];
/** Seconds; whoever wants to be left alone for longer is asked again when the attempts are used up. */
const LONGEST_RETRY_AFTER = 300;

/** @returns what `error` means for a page; anything but an OutboundError as it is */
export function webFaultOf(error: unknown): unknown {
  if (!(error instanceof OutboundError)) return error;
  const { code, message } = error;
  if (code === 'answer_too_large') return pageTooLarge();
  const options = { passing: PASSING.includes(code), cause: error };
  return new WebFault(REFUSED.includes(code) ? 'address_refused' : 'fetch_failed', message, options);
}

export const pageTooLarge = (): WebFault => new WebFault('too_large', 'The page is larger than is accepted.');

/** What an answer without a page means. @param retryAfter the header of this name */
export function refusedBy(status: number, retryAfter: string | undefined): WebFault {
  const passing = status >= 500 || PASSING_STATUSES.includes(status);
  const seconds = secondsOf(retryAfter);
  return new WebFault('fetch_failed', `The server answered with the status ${status}.`, {
    passing,
    retryAfter: seconds !== null && seconds <= LONGEST_RETRY_AFTER ? seconds : null,
  });
}

/** `Retry-After` (RFC 9110, 10.2.3) in seconds. */
function secondsOf(header: string | undefined): number | null {
  if (header === undefined) return null;
  const seconds = /^\d{1,9}$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) && seconds > 0 ? Math.ceil(seconds) : null;
}
