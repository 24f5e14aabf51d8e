import { DynamicModule, Global, Inject, Module } from '@nestjs/common';
import type { Env } from './env.js';

/** For factories; classes use {@link InjectEnv}. */
export const ENV = Symbol('ENV');

/** Injects the parsed settings: `constructor(@InjectEnv() private readonly env: Env)`. */
export const InjectEnv = (): ParameterDecorator => Inject(ENV);

@Global()
@Module({})
export class ConfigModule {
  static forRoot(env: Env): DynamicModule {
    return { module: ConfigModule, providers: [{ provide: ENV, useValue: env }], exports: [ENV] };
  }
}
