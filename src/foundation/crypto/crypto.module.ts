import { type DynamicModule, Global, Module } from '@nestjs/common';
import { SealedBox } from './sealed-box.js';
import type { Secrets } from './secrets.js';
import { SigningKey } from './signing-key.js';

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
        { provide: SigningKey, useValue: SigningKey.of(secrets.encryptionKey) },
      ],
      exports: [SECRETS, SealedBox, SigningKey],
    };
  }
}
