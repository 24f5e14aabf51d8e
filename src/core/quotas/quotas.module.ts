import { Global, Module } from '@nestjs/common';
import { CallLimits } from './call-limits.service.js';
import { QuotaAlarm } from './quota-alarm.service.js';
import { QuotaUsageService } from './quota-usage.service.js';
import { QuotasController } from './quotas.controller.js';
import { QuotasRepository } from './quotas.repository.js';
import { QuotasService } from './quotas.service.js';
import { RequestRates } from './request-rates.service.js';
import { UsageCounters } from './usage-counters.js';

@Global()
@Module({
  controllers: [QuotasController],
  providers: [
    QuotasService,
    QuotaUsageService,
    QuotasRepository,
    QuotaAlarm,
    UsageCounters,
    CallLimits,
    RequestRates,
  ],
  exports: [QuotasService, CallLimits, RequestRates],
})
export class QuotasModule {}
