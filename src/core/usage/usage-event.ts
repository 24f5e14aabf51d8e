import { v7 as uuidv7 } from 'uuid';
import { durationBucket } from './duration-histogram.js';

/** `query`: something was asked; `api`: any other request; `job`: work that no request waited for. */
export const USAGE_KINDS = ['query', 'api', 'job'] as const;
export type UsageKind = (typeof USAGE_KINDS)[number];

/** Operations that ask something of the documents. */
const QUERY_OPERATIONS: ReadonlySet<string> = new Set(['search', 'query', 'chat']);

/** What only those know who do the work. Numbers add up, of everything else the last holds. */
export interface UsageDetails {
  /** `search`, `query`, `document.create`, …; of a request its route's. */
  operation?: string;
  kbId?: string;
  agentId?: string;
  model?: string;
  inputTokens?: number;
  outputTokens?: number;
  embeddingTokens?: number;
  /** Micro-credits. */
  credits?: number;
}

/** Whose it is and how it ended, of one request or one job. */
export interface UsageEvent extends UsageDetails {
  tenantId: string;
  operation: string;
  /** When it ended [now]. */
  time?: Date;
  /** Of an API token its creator. */
  userId?: string | null;
  tokenId?: string | null;
  tokenKind?: 'live' | 'test' | 'publishable' | null;
  /** Somebody of the platform who is no member: not among the tenant's active users. */
  byPlatform?: boolean;
  /** Milliseconds. */
  durationMs: number;
  outcome: 'success' | 'failure';
  /** Of HTTP; without it the event is a job's. */
  status?: number | null;
}

/** A row of `usage_events`, under the names of its columns. */
export interface UsageRow {
  tenant_id: string;
  id: string;
  time: string;
  kind: UsageKind;
  operation: string;
  kb_id: string | null;
  agent_id: string | null;
  user_id: string | null;
  by_platform: boolean;
  token_id: string | null;
  token_kind: string | null;
  model: string | null;
  input_tokens: number;
  output_tokens: number;
  embedding_tokens: number;
  credits: number;
  duration_us: number;
  duration_bucket: number;
  outcome: 'success' | 'failure';
  status: number | null;
}

/** The id makes it one event, however often it is sent. */
export function toUsageRow(event: UsageEvent): UsageRow {
  const durationUs = Math.max(1, whole(event.durationMs * 1000));
  return {
    tenant_id: event.tenantId,
    id: uuidv7(),
    time: (event.time ?? new Date()).toISOString(),
    kind: kindOf(event.operation, event.status ?? null),
    operation: event.operation,
    kb_id: event.kbId ?? null,
    agent_id: event.agentId ?? null,
    user_id: event.userId ?? null,
    by_platform: event.byPlatform ?? false,
    token_id: event.tokenId ?? null,
    token_kind: event.tokenKind ?? null,
    model: event.model ?? null,
    input_tokens: whole(event.inputTokens),
    output_tokens: whole(event.outputTokens),
    embedding_tokens: whole(event.embeddingTokens),
    credits: whole(event.credits),
    duration_us: durationUs,
    duration_bucket: durationBucket(durationUs),
    outcome: event.outcome,
    status: event.status ?? null,
  };
}

/** Adds what was noted to what is known already. */
export function addDetails(known: UsageDetails, noted: UsageDetails): void {
  known.operation = noted.operation ?? known.operation;
  known.kbId = noted.kbId ?? known.kbId;
  known.agentId = noted.agentId ?? known.agentId;
  known.model = noted.model ?? known.model;
  if (noted.inputTokens) known.inputTokens = (known.inputTokens ?? 0) + noted.inputTokens;
  if (noted.outputTokens) known.outputTokens = (known.outputTokens ?? 0) + noted.outputTokens;
  if (noted.embeddingTokens) known.embeddingTokens = (known.embeddingTokens ?? 0) + noted.embeddingTokens;
  if (noted.credits) known.credits = (known.credits ?? 0) + noted.credits;
}

function kindOf(operation: string, status: number | null): UsageKind {
  if (status === null) return 'job';
  return QUERY_OPERATIONS.has(operation) ? 'query' : 'api';
}

/** What a faulty model server counts must not stop a batch: no negative number, none that is no number. */
const whole = (value = 0): number =>
  Number.isFinite(value) ? Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.round(value))) : 0;
