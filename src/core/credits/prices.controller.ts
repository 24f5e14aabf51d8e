import { Body, Controller, Get, Put, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { toPage } from '../../foundation/http/pagination.js';
import { RequirePermission } from '../authorization/require-permission.js';
import {
  type ListPrices,
  type PriceHistory,
  type SetPrices,
  listPricesQuery,
  priceHistoryPageSchema,
  priceHistoryQuery,
  pricesSchema,
  setPricesSchema,
  toChanges,
  toPrice,
} from './prices.dto.js';
import { PricesService } from './prices.service.js';

const WHO =
  'For the platform, and for whoever holds `tenant:manage_billing` in the tenant that the request names or its ' +
  'credential is for.';

@ApiTags('Credits')
@Controller('prices')
export class PricesController {
  constructor(private readonly prices: PricesService) {}

  @Get()
  @RequirePermission('user:read', { tokens: true })
  @ApiOperation({
    summary: 'Read what operations cost, now or at another moment',
    description: `${WHO} What is not in the list costs nothing.`,
  })
  @ApiOkResponse({ standardSchema: pricesSchema })
  @ApiProblems(400, 422)
  async list(@Query({ schema: listPricesQuery }) query: ListPrices) {
    const prices = await this.prices.at(query.at === undefined ? null : new Date(query.at));
    return { items: prices.map(toPrice) };
  }

  @Get('history')
  @RequirePermission('user:read', { tokens: true })
  @ApiOperation({ summary: 'Read every price that was ever set, the newest first', description: WHO })
  @ApiOkResponse({ standardSchema: priceHistoryPageSchema })
  @ApiProblems(400, 422)
  async history(@Query({ schema: priceHistoryQuery }) query: PriceHistory) {
    const { operation, model, page, page_size: pageSize } = query;
    return toPage(await this.prices.history({ operation, model }, { page, pageSize }), query, toPrice);
  }

  @Put()
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Set prices, from now on',
    description:
      'What the request does not name stays as it is. Operations that have begun end at the prices with which they began; ' +
      'what a price was before stays in the history.',
  })
  @ApiOkResponse({ standardSchema: pricesSchema })
  @ApiProblems(422)
  async set(@Body({ schema: setPricesSchema }) body: SetPrices) {
    const prices = await this.prices.set(toChanges(body));
    return { items: prices.map(toPrice) };
  }
}
