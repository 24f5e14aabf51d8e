import { Module } from '@nestjs/common';
import { IsolationController } from './isolation.controller.js';

/** What the server says of its own isolation; CryptoModule and DatabaseModule, which know it, are global. */
@Module({ controllers: [IsolationController] })
export class IsolationModule {}
