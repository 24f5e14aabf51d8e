import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type CreateAlert,
  type ListAlertEvents,
  type ListAlerts,
  type UpdateAlert,
  alertEventPageSchema,
  alertPageSchema,
  alertSchema,
  createAlertSchema,
  listAlertEventsQuery,
  listAlertsQuery,
  toAlert,
  toAlertEvent,
  updateAlertSchema,
} from './alerts.dto.js';
import { AlertsService } from './alerts.service.js';

const ApiAlertParam = (): MethodDecorator => ApiParam({ name: 'alert', description: 'Id of the alert' });

@ApiTags('Alerts')
@ApiTenantParam()
@Controller('tenants/:tenant/alerts')
export class AlertsController {
  constructor(private readonly alerts: AlertsService) {}

  @Get()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'List the alerts of a tenant' })
  @ApiOkResponse({ standardSchema: alertPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listAlertsQuery }) query: ListAlerts) {
    return toPage(await this.alerts.list(query), query, toAlert);
  }

  @Post()
  @RequirePermission('tenant:manage')
  @ApiOperation({
    summary: 'Make an alert',
    description:
      'It is evaluated every minute, fires once when its threshold is crossed, and recovers once. A percentage of what ' +
      'the tenant has no limit of is a 422; where a limit is taken away later, the alert rests, and `limit` is null.',
  })
  @ApiCreatedResponse({ standardSchema: alertSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createAlertSchema }) body: CreateAlert) {
    return toAlert(await this.alerts.create(body));
  }

  @Get(':alert')
  @ApiAlertParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Read an alert: its condition and its state' })
  @ApiOkResponse({ standardSchema: alertSchema })
  async get(@Param('alert', IdParam) id: string) {
    return toAlert(await this.alerts.get(id));
  }

  @Patch(':alert')
  @ApiIfMatch()
  @ApiAlertParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({
    summary: 'Change an alert, or switch it on or off',
    description:
      'With another condition, or switched off, it begins anew: what it has slowed down goes on, and nobody is told.',
  })
  @ApiOkResponse({ standardSchema: alertSchema })
  @ApiProblems(422)
  async update(
    @Param('alert', IdParam) id: string,
    @Body({ schema: updateAlertSchema }) body: UpdateAlert,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toAlert(await this.alerts.update(id, body, ifMatch));
  }

  @Delete(':alert')
  @ApiAlertParam()
  @HttpCode(204)
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Delete an alert with its events' })
  @ApiNoContentResponse()
  async delete(@Param('alert', IdParam) id: string) {
    await this.alerts.delete(id);
  }

  @Get(':alert/events')
  @ApiAlertParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'List when an alert has fired and recovered in the last 90 days, newest first' })
  @ApiOkResponse({ standardSchema: alertEventPageSchema })
  @ApiProblems(422)
  async events(
    @Param('alert', IdParam) id: string,
    @Query({ schema: listAlertEventsQuery }) query: ListAlertEvents,
  ) {
    return toPage(await this.alerts.events(id, query), query, toAlertEvent);
  }
}
