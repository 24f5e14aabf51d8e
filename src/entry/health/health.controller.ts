import { Controller, Get, ServiceUnavailableException } from '@nestjs/common';
import { HealthCheckService, type HealthCheckResult, HealthIndicatorService } from '@nestjs/terminus';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Public } from '../../core/authorization/require-permission.js';
import { ModelsService } from '../../core/models/models.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import type { IngestionCall } from '../../features/documents/ingestion-queue.js';
import { INGESTION_QUEUE } from '../../features/documents/ingestion-queue.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { Problem } from '../../foundation/http/problem.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import { Unlimited } from '../../foundation/rate-limits/unlimited.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { HealthRepository } from './health.repository.js';
import { healthSchema, liveSchema, versionSchema } from './health.dto.js';
import { VERSION } from './version.js';

@ApiTags('Health')
@Unlimited()
@Controller()
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly indicator: HealthIndicatorService,
    private readonly database: PlatformDatabase,
    private readonly repository: HealthRepository,
    private readonly storage: FileStorage,
    private readonly models: ModelsService,
    @InjectJobQueue(INGESTION_QUEUE) private readonly queue: JobQueue<IngestionCall>,
  ) {}

  @Get('health/live')
  @Public()
  @ApiOperation({ summary: 'Whether the process answers at all' })
  @ApiOkResponse({ standardSchema: liveSchema })
  live() {
    return { status: 'ok' };
  }

  @Get(['health/ready', 'health'])
  @Public()
  @ApiOperation({ summary: 'Whether the process can do its work: database, queue, storage, models' })
  @ApiOkResponse({ standardSchema: healthSchema })
  @ApiProblems(503)
  async ready() {
    try {
      const { status, details } = await this.checkAll();
      return { status, checks: details };
    } catch (error) {
      if (!(error instanceof ServiceUnavailableException)) throw error;
      const { details } = error.getResponse() as HealthCheckResult;
      throw new Problem(503, 'not_ready', 'Not everything that this process needs is up.', {
        members: { checks: details },
        headers: { 'retry-after': '5' },
      });
    }
  }

  @Get('version')
  @Public()
  @ApiOperation({ summary: 'The version of this installation' })
  @ApiOkResponse({ standardSchema: versionSchema })
  version() {
    return { version: VERSION };
  }

  private checkAll(): Promise<HealthCheckResult> {
    return this.health.check([
      () => this.check('database', () => this.database.run(tx => this.repository.ping(tx))),
      () => this.check('queue', () => this.queue.isHealthy()),
      () => this.check('storage', () => this.storage.isHealthy()),
      () =>
        this.check('models', async () =>
          Object.values(await this.models.health()).every(state => state !== 'down'),
        ),
    ]);
  }

  /** What exactly is wrong is for the log, not for whoever may ask. */
  private async check(name: string, isUp: () => Promise<boolean>) {
    const indicator = this.indicator.check(name);
    const up = await withTimeout(isUp()).catch(() => false);
    return up ? indicator.up() : indicator.down();
  }
}

const TIMEOUT_MS = 4_000;

async function withTimeout(check: Promise<boolean>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>(done => {
    timer = setTimeout(done, TIMEOUT_MS, false);
  });
  return Promise.race([check, late]).finally(() => clearTimeout(timer));
}
