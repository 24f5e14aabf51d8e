import { type DynamicModule, Global, Module } from '@nestjs/common';
import { SealedBox } from './sealed-box.js';
import type { Secrets } from './secrets.js';

export const SECRETS = Symbol('SECRETS');

@Global()
@Module({})
export class CryptoModule {
  static forRoot(secrets: Secrets): DynamicModule {
    return {
      module: CryptoModule,
      providers: [
        { provide: SECRETS, useValue: secrets },
        {
          provide: SealedBox,
          useValue: new SealedBox([secrets.encryptionKey, ...secrets.oldEncryptionKeys]),
        },
      ],
      exports: [SECRETS, SealedBox],
    };
  }
}
