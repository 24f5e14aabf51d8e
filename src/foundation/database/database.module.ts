import { type DynamicModule, Global, Module } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { ChangeFeed } from './change-feed.js';
import { IsolationProbes } from './isolation-probes.js';
import { APPLICATION_DATA_SOURCE } from './tokens.js';

@Global()
@Module({})
export class DatabaseModule {
  /** @param url of the running role; null where this process has the database for itself */
  static forRoot(dataSource: DataSource, url: string | null): DynamicModule {
    return {
      module: DatabaseModule,
      providers: [
        { provide: APPLICATION_DATA_SOURCE, useValue: dataSource },
        { provide: ChangeFeed, useFactory: () => new ChangeFeed(url) },
        { provide: IsolationProbes, useValue: new IsolationProbes(dataSource, url === null) },
      ],
      exports: [APPLICATION_DATA_SOURCE, ChangeFeed, IsolationProbes],
    };
  }
}
