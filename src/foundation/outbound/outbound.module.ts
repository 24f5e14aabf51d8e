import { type DynamicModule, Module } from '@nestjs/common';
import type { Env } from '../config/env.js';
import { OutboundClient } from './outbound-client.js';

@Module({})
export class OutboundModule {
  static forRoot({ outboundAllowedHosts: allowedHosts }: Env): DynamicModule {
    return {
      module: OutboundModule,
      global: true,
      providers: [{ provide: OutboundClient, useFactory: () => new OutboundClient({ allowedHosts }) }],
      exports: [OutboundClient],
    };
  }
}
