import { Global, Module } from '@nestjs/common';
import { FileStorage } from './file-storage.js';
import { LocalStorage } from './local-storage.js';

@Global()
@Module({
  providers: [{ provide: FileStorage, useClass: LocalStorage }],
  exports: [FileStorage],
})
export class StorageModule {}
