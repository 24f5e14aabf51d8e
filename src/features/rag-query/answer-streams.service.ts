import { Injectable, Logger, StreamableFile } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import {
  EVENT_STREAM_HEADERS,
  EVENT_STREAM_TYPE,
  eventStream,
  keepAliveInterval,
} from '../../foundation/http/event-stream.js';
import type { AnswerEvent } from './answer-events.js';
import { toServerSentEvents } from './answer-wire.js';

/** Answers as streams of server-sent events. */
@Injectable()
export class AnswerStreams {
  private readonly logger = new Logger(AnswerStreams.name);

  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
  ) {}

  /** @throws what the events throw before the first */
  send(
    events: AsyncGenerator<AnswerEvent, unknown>,
    includeText: boolean,
    reply: FastifyReply,
  ): Promise<StreamableFile> {
    const { requestId } = this.context.actor;
    return this.write(events, all => toServerSentEvents(all, { includeText, requestId }), reply);
  }

  /**
   * Begins with the first event, so that what goes wrong before it is answered as a problem.
   *
   * @param lines writes the events
   * @throws what the events throw before the first
   */
  async write<Event>(
    events: AsyncGenerator<Event, unknown>,
    lines: (events: AsyncGenerator<Event, void>) => AsyncGenerator<string, void>,
    reply: FastifyReply,
  ): Promise<StreamableFile> {
    const first = await events.next();
    const stream = eventStream(lines(beginningWith(first, events)), {
      keepAlive: keepAliveInterval(this.env.requestTimeout),
      onError: error => this.logger.warn(error),
    });
    void reply.headers(EVENT_STREAM_HEADERS);
    return new StreamableFile(stream, { type: EVENT_STREAM_TYPE });
  }
}

/** The whole again; closing it closes the rest. */
async function* beginningWith<Event>(
  first: IteratorResult<Event, unknown>,
  rest: AsyncGenerator<Event, unknown>,
): AsyncGenerator<Event, void> {
  try {
    if (first.done) return;
    yield first.value;
    yield* rest;
  } finally {
    await rest.return(undefined);
  }
}
