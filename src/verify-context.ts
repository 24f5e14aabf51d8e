import type { Caller, VerifyAnswer, VerifyServer } from './verify-api.js';
import type { TestRecord } from './verify-record.js';
import type { ReadingRoute } from './verify-routes.js';
import type { ThrowAway } from './verify-tenants.js';

/** What the seven tests work with. */
export interface VerifyContext {
  server: VerifyServer;
  /** The platform's admin. */
  admin: Caller;
  routes: ReadingRoute[];
  world: ThrowAway;
  /** API tokens of B's owner that hold these scopes; null: all of a tenant's. */
  tokenOfB(scopes: readonly string[] | null): Promise<Caller>;
}

/** One of the seven. */
export type VerifyTest = (context: VerifyContext, record: TestRecord) => Promise<void>;

/** Differ from answer to answer, whatever was asked. */
const VOLATILE = new Set(['instance', 'request_id', 'latency_ms', 'session_id', 'message_id']);

/** What an answer tells, but for what is different each time, and for what was asked for. */
export function toldBy({ status, text, body }: VerifyAnswer, ...asked: string[]): string {
  const isJson = Object.keys(body).length > 0;
  let told = isJson ? JSON.stringify(withoutVolatile(body)) : text;
  for (const id of asked) told = told.replaceAll(id, '<asked>');
  return `${status} ${told}`;
}

function withoutVolatile(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutVolatile);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !VOLATILE.has(name))
      .map(([name, member]) => [name, withoutVolatile(member)]),
  );
}

/** Status and code, for reports: what an answer holds beyond that may be somebody’s. */
export function outcomeOf({ status, body }: VerifyAnswer): string {
  const { code } = body;
  return typeof code === 'string' ? `${status} ${code}` : String(status);
}
