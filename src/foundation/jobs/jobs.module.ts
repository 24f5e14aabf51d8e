import { BullModule, getQueueToken } from '@nestjs/bull';
import { type DynamicModule, Inject, Module } from '@nestjs/common';
import type { Queue, QueueOptions } from 'bull';
import { Redis, type RedisOptions } from 'ioredis';
import type { Env } from '../config/env.js';
import { BullQueue } from './bull-queue.js';
import { InProcessQueue } from './in-process-queue.js';

const tokenOf = (name: string): string => `JobQueue:${name}`;

/** Injects the `JobQueue` of this name. */
export const InjectJobQueue = (name: string): ParameterDecorator => Inject(tokenOf(name));

/** A worker that dies without a word gives its jobs back after this long; the default is twice as much. */
const LOCK_MS = 15_000;

@Module({})
export class JobsModule {
  /**
   * A queue by name, once for the whole application: on Redis through Bull where the settings name one, else in this
   * process.
   *
   * @param installation keeps the queues of installations apart that share a Redis
   */
  static register(env: Env, name: string, installation: string): DynamicModule {
    const provide = tokenOf(name);
    if (!env.redisUrl) {
      return {
        module: JobsModule,
        global: true,
        providers: [{ provide, useClass: InProcessQueue }],
        exports: [provide],
      };
    }
    return {
      module: JobsModule,
      global: true,
      imports: [BullModule.registerQueue({ name, ...queueOptions(env.redisUrl, installation) })],
      providers: [
        { provide, useFactory: (queue: Queue) => new BullQueue(queue), inject: [getQueueToken(name)] },
      ],
      exports: [provide],
    };
  }
}

function queueOptions(url: string, installation: string): QueueOptions {
  return {
    prefix: `enclave:${installation}`,
    settings: { lockDuration: LOCK_MS, stalledInterval: LOCK_MS / 3, maxStalledCount: 1000 },
    createClient: (type, options) => {
      // Bull's blocking and subscribing clients wait for ever by design; the one that requests use must not.
      const waiting: RedisOptions = { ...options, maxRetriesPerRequest: null, enableReadyCheck: false };
      const client =
        type === 'client'
          ? new Redis(url, { ...options, maxRetriesPerRequest: 1, commandTimeout: 5_000 })
          : new Redis(url, waiting);
      // The queue logs them; without a listener of its own ioredis prints every failed reconnection, too.
      client.on('error', () => undefined);
      return client;
    },
  };
}
