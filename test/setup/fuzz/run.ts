import { createHash } from 'node:crypto';
import { Pool } from 'undici';
import { AnswerCheck, type Fault, type RawAnswer } from './answers.js';
import { type ApiDocument, operationsOf } from './api-document.js';
import { type FuzzedRequest, fuzzedRequests } from './requests.js';
import { Surroundings } from './surroundings.js';
import { PLACEHOLDER } from './values.js';

export interface FuzzOptions {
  /** Where the API listens, without a path. */
  url: string;
  admin: { email: string; password: string };
  requests: number;
  seed: number;
  /** Requests under way at a time [8]. */
  lanes?: number;
  /** Texts that no answer may have in it, with what they are. */
  secrets?: ReadonlyMap<string, string>;
  /** Of these operations alone, by `METHOD /path`. */
  only?: (key: string) => boolean;
  progress?: (done: number) => void;
}

/** A property that did not hold, with the request as it can be sent again. */
export interface FoundFault extends Fault {
  operation: string;
  /** Its number in the run of this seed. */
  number: number;
  request: string;
}

export interface FuzzResult {
  seed: number;
  requests: number;
  /** Requests by status class: `2xx`, …, and `none` where no answer came. */
  classes: Record<string, number>;
  /** Operations that were asked, and those that were answered with 2xx at least once. */
  operations: { asked: number; succeeded: number; known: number };
  /** Operations whose every answer was a refusal. */
  refused: string[];
  faults: FoundFault[];
  /** Milliseconds; the slowest operation with it. */
  slowest: { key: string; took: number };
}

/** After so many requests it is seen to that what they are about is still there. */
const BETWEEN_REPAIRS = 400;
const LONGEST_WAIT_MS = 20_000;
const STREAM_MS = 700;
const MOST_READ = 2 * 1024 * 1024;
const LONGEST_SHOWN = 700;

/** Sends requests that a seed makes of the OpenAPI document, and holds each answer against it. */
export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const { url, seed, lanes = 8 } = options;
  const api = (await (await fetch(`${url}/openapi.json`)).json()) as ApiDocument;
  const known = operationsOf(api).filter(({ key }) => options.only?.(key) ?? true);
  const requests = fuzzedRequests(api, known, { count: options.requests, seed });
  const surroundings = await Surroundings.make(url, options.admin);
  const check = new AnswerCheck(api, options.secrets);
  const pool = new Pool(url, {
    connections: lanes,
    headersTimeout: LONGEST_WAIT_MS,
    bodyTimeout: LONGEST_WAIT_MS,
  });
  const result: FuzzResult = {
    seed,
    requests: 0,
    classes: {},
    operations: { asked: 0, succeeded: 0, known: known.length },
    refused: [],
    faults: [],
    slowest: { key: '', took: 0 },
  };
  const asked = new Set<string>();
  const succeeded = new Set<string>();

  const send = async (request: FuzzedRequest, number: number): Promise<void> => {
    const { operation, caller } = request;
    const { key } = operation;
    if (caller === 'leaver') await surroundings.renewLeaver();
    const filled = fill(request, surroundings, `${seed}-${number}`);
    const token = surroundings.tokenOf(caller);
    const headers = {
      ...filled.headers,
      ...(filled.body?.type && { 'content-type': filled.body.type }),
      ...(token && { authorization: `Bearer ${token}` }),
    };
    const started = performance.now();
    const answer = await exchange(pool, operation.method, filled.path, headers, filled.body).catch(
      (error: unknown) => error as Error,
    );
    const took = performance.now() - started;
    if (took > result.slowest.took) result.slowest = { key, took: Math.round(took) };
    asked.add(key);
    result.requests++;
    const found: Fault[] = [];
    if (answer instanceof Error) {
      count(result.classes, 'none');
      found.push({ property: 'an answer', detail: `${answer.name}: ${answer.message}` });
    } else {
      count(result.classes, `${Math.floor(answer.status / 100)}xx`);
      if (answer.status < 300) succeeded.add(key);
      const sent = `${filled.path}\n${JSON.stringify(filled.headers)}\n${filled.body?.text ?? ''}`;
      found.push(...check.faultsOf(operation, answer, sent));
      for (const [mark, what] of surroundings.foreignMarks(caller))
        if (answer.text.includes(mark) && !sent.includes(mark))
          found.push({ property: 'nothing of others', detail: what });
    }
    for (const fault of found)
      result.faults.push({ ...fault, operation: key, number, request: shown(request, filled) });
  };

  try {
    for (let begin = 0; begin < requests.length; begin += BETWEEN_REPAIRS) {
      if (begin > 0) await surroundings.repair();
      let next = begin;
      const end = Math.min(begin + BETWEEN_REPAIRS, requests.length);
      const lane = async () => {
        while (next < end) {
          const number = next++;
          await send(requests[number] as FuzzedRequest, number);
        }
      };
      await Promise.all(Array.from({ length: lanes }, lane));
      options.progress?.(end);
    }
  } finally {
    await pool.destroy();
  }
  result.operations.asked = asked.size;
  result.operations.succeeded = succeeded.size;
  result.refused = [...asked].filter(key => !succeeded.has(key)).toSorted();
  return result;
}

/** For people: each kind of fault once, with how often it was found and how it is met again. */
export function summaryOf({ faults, seed }: FuzzResult, most = 40): string[] {
  const kinds = new Map<string, FoundFault[]>();
  for (const fault of faults) {
    const kind = `${fault.property}: ${fault.operation} ${fault.detail.slice(0, 40)}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), fault]);
  }
  return [...kinds.values()]
    .slice(0, most)
    .map(
      ([first, ...others]) =>
        `${first!.property} (${others.length + 1}×, seed ${seed}, number ${first!.number}): ${first!.operation}\n` +
        `  ${first!.detail}\n  ${first!.request}`,
    );
}

interface Filled {
  path: string;
  headers: Record<string, string>;
  body: FuzzedRequest['body'];
}

function fill(request: FuzzedRequest, surroundings: Surroundings, salt: string): Filled {
  let news = 0;
  const inText = (text: string) =>
    text.replace(PLACEHOLDER, (_, first: string, second?: string) =>
      second === undefined
        ? createHash('sha256').update(`${salt}-${news++}`).digest('hex').slice(0, 12)
        : surroundings.idOf(first, second),
    );
  return {
    path: inText(request.path),
    headers: Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [name, inText(value)]),
    ),
    body: request.body && { ...request.body, text: inText(request.body.text) },
  };
}

async function exchange(
  pool: Pool,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: FuzzedRequest['body'],
): Promise<RawAnswer> {
  const answer = await pool.request({
    method: method as 'GET',
    path,
    headers,
    body: body && Buffer.from(body.text, body.encoding),
  });
  const isStream = String(answer.headers['content-type'] ?? '').startsWith('text/event-stream');
  const parts: Buffer[] = [];
  let length = 0;
  // A stream goes on for as long as it likes.
  const timer = isStream ? setTimeout(() => answer.body.destroy(), STREAM_MS) : null;
  try {
    for await (const part of answer.body) {
      parts.push(part as Buffer);
      length += (part as Buffer).length;
      if (length > MOST_READ) break;
    }
  } catch (error) {
    if (!isStream) throw error;
  } finally {
    if (timer) clearTimeout(timer);
  }
  return { status: answer.statusCode, headers: answer.headers, text: Buffer.concat(parts).toString('utf8') };
}

function count(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}

function shown({ operation, caller }: FuzzedRequest, { path, headers, body }: Filled): string {
  const parts = [`${caller}: ${operation.method} ${path}`, JSON.stringify(headers)];
  if (body) parts.push(`${body.type}: ${JSON.stringify(body.text)}`);
  return parts.join(' ').slice(0, LONGEST_SHOWN);
}
