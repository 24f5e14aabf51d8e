import { Injectable } from '@nestjs/common';
import {
  TenantVariablesService,
  UnknownVariableError,
} from '../../core/variables/tenant-variables.service.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { SealError } from '../../foundation/crypto/sealed-box.js';
import { type OutboundAnswer, OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import type { Message, Outcome, SealedParts, Webhook } from './webhook.js';
import { WebhookSecrets } from './webhook-secrets.service.js';
import { signatureHeaders } from './webhook-signature.js';

/** Milliseconds in which a receiver has to have answered. */
const TIMEOUT_MS = 10_000;
const LONGEST_EXCERPT = 1_000;
/** In UTF-8, with room for what is taken out. */
const MOST_BYTES = 4 * LONGEST_EXCERPT;
/** Where a variable is named. */
const VARIABLE = /\$\{[^{}]*\}/g;
/** Shorter ones stand in an answer by chance. */
const SHORTEST_SECRET = 4;

// oxlint-disable-next-line no-control-regex -- it is these that must not come through
const UNPRINTABLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\ufffe\uffff]/g;

/** What goes out, after the tenant's variables have been put in. */
interface Prepared {
  url: string;
  headers: Record<string, string>;
  /** What the receiver may send back, and nobody may read. */
  confidential: string[];
}

/** Sends a message to a webhook's receiver, once. */
@Injectable()
export class WebhookSender {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly outbound: OutboundClient,
    private readonly variables: TenantVariablesService,
    private readonly secrets: WebhookSecrets,
  ) {}

  /**
   * In the context of the webhook's tenant, and in no transaction.
   *
   * @throws the reason of `signal` where that aborts; whatever else happens is the outcome
   */
  async send(webhook: Webhook & SealedParts, message: Message, signal?: AbortSignal): Promise<Outcome> {
    const started = Date.now();
    const failed = (errorCode: string): Outcome => ({
      ok: false,
      statusCode: null,
      excerpt: null,
      errorCode,
      durationMs: Date.now() - started,
      retryAfter: null,
    });
    try {
      const { url, headers, confidential } = await this.prepare(webhook);
      const { id, type, timestamp, tenant_id, data } = message;
      const body = JSON.stringify({ id, type, timestamp, tenant_id, data });
      const answer = await this.outbound.send({
        url,
        method: 'POST',
        headers: {
          ...headers,
          'content-type': 'application/json',
          'user-agent': 'Enclave-Webhooks/1',
          ...signatureHeaders(id, started, body, this.openSecrets(webhook)),
        },
        body,
        timeout: TIMEOUT_MS,
        mostBytes: MOST_BYTES,
        overflow: 'cut',
        httpsOnly: this.env.production,
        signal,
      });
      return toOutcome(answer, confidential, Date.now() - started);
    } catch (error) {
      if (error instanceof OutboundError) return failed(error.code);
      if (error instanceof UnknownVariableError) return failed('unknown_variable');
      if (error instanceof SealError) return failed('secret_unreadable');
      throw error;
    }
  }

  private async prepare(webhook: Webhook & SealedParts): Promise<Prepared> {
    const url = await this.variables.resolve(webhook.url);
    const headers: Record<string, string> = {};
    const templates = this.secrets.openHeaders(webhook.id, webhook.headers);
    for (const [name, template] of Object.entries(templates))
      headers[name] = await this.variables.resolve(template);
    const confidential = Object.values(headers).flatMap(value => [value, ...value.split(' ')]);
    // A receiver may send back a value without what stands around it.
    const named = [webhook.url, ...Object.values(templates)].flatMap(text => text.match(VARIABLE) ?? []);
    for (const variable of new Set(named)) confidential.push(await this.variables.resolve(variable));
    if (url !== webhook.url) confidential.push(url, url.replace(/^\w+:\/\/[^/]*/, ''));
    return { url, headers, confidential };
  }

  /** The one of before holds until its time is up. */
  private openSecrets(webhook: Webhook & SealedParts): string[] {
    const { id, secret, previousSecret, previousSecretExpiresAt } = webhook;
    const overlaps = previousSecret && previousSecretExpiresAt && previousSecretExpiresAt > new Date();
    return [secret, ...(overlaps ? [previousSecret] : [])].map(sealed => this.secrets.openSecret(id, sealed));
  }
}

function toOutcome(answer: OutboundAnswer, confidential: readonly string[], durationMs: number): Outcome {
  const { status } = answer;
  const ok = status >= 200 && status < 300;
  return {
    ok,
    statusCode: status,
    excerpt: excerptOf(answer, confidential),
    errorCode: ok ? null : codeOf(status),
    durationMs,
    retryAfter: secondsOf(answer.headers['retry-after']),
  };
}

function codeOf(status: number): string {
  if (status === 410) return 'gone';
  return status >= 300 && status < 400 ? 'redirected' : 'unexpected_status';
}

/** Of text only, without what a receiver may have sent back to us. */
function excerptOf({ headers, body }: OutboundAnswer, confidential: readonly string[]): string | null {
  const isText = /^(text\/|application\/(?:[\w.+-]*\+)?(?:json|xml)\b)/i.test(headers['content-type'] ?? '');
  if (!isText || body.length === 0) return null;
  let text = body.toString('utf8');
  const longestFirst = [...confidential].toSorted((a, b) => b.length - a.length);
  for (const secret of longestFirst) {
    if (secret.length < SHORTEST_SECRET) continue;
    // As it is, and as JSON writes it.
    for (const form of new Set([secret, JSON.stringify(secret).slice(1, -1)]))
      text = text.replaceAll(form, '***');
  }
  return text.replace(UNPRINTABLE, '').slice(0, LONGEST_EXCERPT).toWellFormed();
}

/** `Retry-After` (RFC 9110, 10.2.3) in seconds. */
function secondsOf(header: string | undefined): number | null {
  if (header === undefined) return null;
  const seconds = /^\d{1,9}$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) && seconds > 0 ? seconds : null;
}
