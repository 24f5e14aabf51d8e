import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { queueViewSchema, toQueueView } from './queue-view.dto.js';
import { QueueViewService } from './queue-view.service.js';

@ApiTags('Jobs')
@Controller('platform/queues')
export class QueueViewController {
  constructor(private readonly queues: QueueViewService) {}

  @Get()
  @RequirePermission('platform:analytics')
  @ApiOperation({
    summary: 'See what waits and what is worked on, in the whole installation',
    description: 'Documents and jobs are counted in the database, whatever the queues have lost.',
  })
  @ApiOkResponse({ standardSchema: queueViewSchema })
  async get() {
    return toQueueView(await this.queues.get());
  }
}
