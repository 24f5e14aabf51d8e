/** One thing that must hold for tenants to be kept apart, and whether it does. Never a row, or anything out of one. */
export interface IsolationFinding {
  /** What was looked at, such as `forced`. */
  check: string;
  /** The role, the table or the connection that it is about. */
  subject: string;
  ok: boolean;
  /** A sentence; where it does not hold, with what is to be done. */
  detail: string;
}
