import { type DynamicModule, Module } from '@nestjs/common';
import type { Env } from '../config/env.js';
import { RateLimits } from './rate-limits.js';

@Module({})
export class RateLimitsModule {
  /** @param installation keeps the counters of installations apart that share a Redis */
  static forRoot(env: Pick<Env, 'redisUrl'>, installation: string): DynamicModule {
    return {
      module: RateLimitsModule,
      global: true,
      providers: [{ provide: RateLimits, useFactory: () => new RateLimits(env.redisUrl, installation) }],
      exports: [RateLimits],
    };
  }
}
