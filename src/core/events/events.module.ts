import { type DynamicModule, Module } from '@nestjs/common';
import { EventDispatcher } from './event-dispatcher.service.js';
import { EventsRepository } from './events.repository.js';
import { EventsService } from './events.service.js';

@Module({})
export class EventsModule {
  /** @param work whether this process hands events to those who listen, too */
  static forRoot({ work }: { work: boolean }): DynamicModule {
    return {
      module: EventsModule,
      global: true,
      providers: [EventsService, EventsRepository, ...(work ? [EventDispatcher] : [])],
      exports: [EventsService],
    };
  }
}
