import { Global, Module } from '@nestjs/common';
import { CreditAccountsRepository } from './credit-accounts.repository.js';
import { CreditAccountsService } from './credit-accounts.service.js';
import { CreditJobs } from './credit-jobs.service.js';
import { CreditWatch } from './credit-watch.service.js';
import { CreditsController } from './credits.controller.js';
import { CreditsRepository } from './credits.repository.js';
import { CreditsService } from './credits.service.js';
import { PricesController } from './prices.controller.js';
import { PricesRepository } from './prices.repository.js';
import { PricesService } from './prices.service.js';

@Global()
@Module({
  controllers: [CreditsController, PricesController],
  providers: [
    CreditsService,
    CreditsRepository,
    CreditAccountsService,
    CreditAccountsRepository,
    CreditJobs,
    CreditWatch,
    PricesService,
    PricesRepository,
  ],
  exports: [CreditsService],
})
export class CreditsModule {}
