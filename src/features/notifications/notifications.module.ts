import { Module } from '@nestjs/common';
import { AlertEvaluationService } from './alert-evaluation.service.js';
import { AlertMetricsRepository } from './alert-metrics.repository.js';
import { AlertRecipientsRepository } from './alert-recipients.repository.js';
import { AlertsController } from './alerts.controller.js';
import { AlertsRepository } from './alerts.repository.js';
import { AlertsService } from './alerts.service.js';

@Module({
  controllers: [AlertsController],
  providers: [
    AlertsService,
    AlertEvaluationService,
    AlertsRepository,
    AlertMetricsRepository,
    AlertRecipientsRepository,
  ],
})
export class NotificationsModule {}
