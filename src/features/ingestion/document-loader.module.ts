import { Injectable, Module, type OnApplicationShutdown } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { DocumentLoader } from '../../foundation/extraction/document-loader.js';
import { ScratchFolder } from '../../foundation/storage/scratch-folder.js';

@Injectable()
class ConfiguredDocumentLoader extends DocumentLoader implements OnApplicationShutdown {
  constructor(@InjectEnv() env: Env, scratch: ScratchFolder) {
    super({
      threads: env.workerConcurrency,
      timeLimit: env.parsing.timeLimit,
      heapLimit: env.parsing.heapMb,
      scratchFolder: scratch.path,
    });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.close();
  }
}

/** For processes that work on jobs, and for those that show what would become of a file. Threads start when they are needed. */
@Module({
  providers: [{ provide: DocumentLoader, useClass: ConfiguredDocumentLoader }],
  exports: [DocumentLoader],
})
export class DocumentLoaderModule {}
