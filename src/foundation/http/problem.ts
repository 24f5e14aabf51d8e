/** One field that is wrong. `path` is a JSON pointer without its leading slash's meaning: `config.chunk_size`. */
export interface FieldError {
  path: string;
  code: string;
  message: string;
}

/** Titles of the HTTP statuses that this API answers with. */
const TITLES: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  412: 'Precondition Failed',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  416: 'Range Not Satisfiable',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
};

export const titleOf = (status: number): string => TITLES[status] ?? 'Error';

/**
 * An answer that is an error, as RFC 9457 has it. `code` is stable and for programs; `detail` is a sentence for
 * people and may change.
 */
export class Problem extends Error {
  override readonly name = 'Problem';

  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly options: {
      errors?: FieldError[];
      /** Further members of the problem document (RFC 9457, 3.2). */
      members?: Record<string, unknown>;
      headers?: Record<string, string>;
      /**
       * Whether the audit writes this answer down as a denial: every 403 does. Of another status, `{}` says that it
       * refuses; `tenant` names what was asked for. False: whoever throws it has written more than that already.
       */
      denied?: { tenant?: string } | false;
    } = {},
  ) {
    super(detail);
  }

  static malformed(code: string, detail: string): Problem {
    return new Problem(400, code, detail);
  }

  static unauthorized(code: string, detail: string): Problem {
    return new Problem(401, code, detail, { headers: { 'www-authenticate': 'Bearer' } });
  }

  static forbidden(detail: string, code = 'forbidden'): Problem {
    return new Problem(403, code, detail);
  }

  /** The one answer for what does not exist and for what belongs to somebody else. */
  static notFound(what = 'resource'): Problem {
    return new Problem(404, 'not_found', `There is no such ${what}.`);
  }

  /** The same for a tenant, which may exist: who asked for it, and for which, is written down. */
  static foreignTenant(reference: string): Problem {
    return new Problem(404, 'not_found', 'There is no such tenant.', { denied: { tenant: reference } });
  }

  static conflict(code: string, detail: string, members?: Record<string, unknown>): Problem {
    return new Problem(409, code, detail, { members });
  }

  static invalid(errors: FieldError[]): Problem {
    return new Problem(422, 'validation_failed', 'Some fields are not valid; `errors` names each.', {
      errors,
    });
  }

  static unavailable(code: string, detail: string, retryAfterSeconds = 5): Problem {
    return new Problem(503, code, detail, { headers: { 'retry-after': String(retryAfterSeconds) } });
  }
}
