import { Module } from '@nestjs/common';
import { AnalyticsController } from './analytics.controller.js';
import { MetricsRepository } from './metrics.repository.js';
import { MetricsService } from './metrics.service.js';
import { PlatformAnalyticsRepository } from './platform-analytics.repository.js';
import { PlatformAnalyticsService } from './platform-analytics.service.js';
import { QueueViewController } from './queue-view.controller.js';
import { QueueViewRepository } from './queue-view.repository.js';
import { QueueViewService } from './queue-view.service.js';
import { UsageReportRepository } from './usage-report.repository.js';
import { UsageReportService } from './usage-report.service.js';

@Module({
  controllers: [AnalyticsController, QueueViewController],
  providers: [
    MetricsService,
    MetricsRepository,
    UsageReportService,
    UsageReportRepository,
    PlatformAnalyticsService,
    PlatformAnalyticsRepository,
    QueueViewService,
    QueueViewRepository,
  ],
})
export class AnalyticsModule {}
