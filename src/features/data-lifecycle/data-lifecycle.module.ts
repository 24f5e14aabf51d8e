import { type DynamicModule, Module } from '@nestjs/common';
import { StorageSweepController } from './storage-sweep.controller.js';
import { StorageSweepRepository } from './storage-sweep.repository.js';
import { INSTALLATION, StorageSweepService } from './storage-sweep.service.js';

@Module({})
export class DataLifecycleModule {
  /** @param installation names the database, see `installationId` */
  static forRoot(installation: string): DynamicModule {
    return {
      module: DataLifecycleModule,
      controllers: [StorageSweepController],
      providers: [
        StorageSweepService,
        StorageSweepRepository,
        { provide: INSTALLATION, useValue: installation },
      ],
    };
  }
}
