import { type DynamicModule, Module } from '@nestjs/common';
import type { Env } from '../config/env.js';
import { FileStorage } from './file-storage.js';
import { LocalStorage } from './local-storage.js';
import { ScratchFolder } from './scratch-folder.js';

@Module({})
export class StorageModule {
  static forRoot({ dataDir, s3 }: Pick<Env, 'dataDir' | 's3'>): DynamicModule {
    return {
      module: StorageModule,
      global: true,
      providers: [
        { provide: ScratchFolder, useFactory: () => new ScratchFolder(dataDir) },
        {
          provide: FileStorage,
          useFactory: async (): Promise<FileStorage> => {
            if (!s3) return new LocalStorage(dataDir);
            // Loaded only where it is needed: Amazon's library takes its time.
            const { S3Storage } = await import('./s3-storage.js');
            return new S3Storage(dataDir, s3);
          },
        },
      ],
      exports: [FileStorage, ScratchFolder],
    };
  }
}
