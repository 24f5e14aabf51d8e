import { Body, Controller, Get, Headers, Patch, Post, Query, StreamableFile } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import { v7 as uuidv7 } from 'uuid';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { toPage } from '../../foundation/http/pagination.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { RequirePermission } from '../authorization/require-permission.js';
import { readIdempotencyKey } from '../idempotency/idempotency-key.js';
import { ApiTenantParam } from '../tenancy/api-tenant-param.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { CreditAccountsService } from './credit-accounts.service.js';
import {
  type AddCredits,
  type ExportLedger,
  type ListLedger,
  type UpdateCredits,
  addCreditsSchema,
  creditAccountSchema,
  exportLedgerQuery,
  ledgerEntrySchema,
  ledgerPageSchema,
  listLedgerQuery,
  toCreditAccount,
  toLedgerEntry,
  toLedgerFilter,
  toMovementKey,
  updateCreditsSchema,
} from './credits.dto.js';

const CONTENT_TYPES = { jsonl: 'application/x-ndjson; charset=utf-8', csv: 'text/csv; charset=utf-8' };

@ApiTags('Credits')
@ApiTenantParam()
@Controller('tenants/:tenant/credits')
export class CreditsController {
  constructor(
    private readonly accounts: CreditAccountsService,
    private readonly context: TenantContext,
  ) {}

  @Get()
  @RequirePermission('tenant:manage_billing')
  @ApiOperation({ summary: 'Read how many credits a tenant has, and what it spends' })
  @ApiOkResponse({ standardSchema: creditAccountSchema })
  async get() {
    return toCreditAccount(await this.accounts.get());
  }

  @Post()
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Grant credits, or adjust the balance',
    description:
      'What expires first is spent first. Where the tenant’s limits are enforced, no adjustment takes more than there is.',
  })
  @ApiCreatedResponse({ standardSchema: ledgerEntrySchema })
  @ApiProblems(404, 409, 422)
  async add(
    @Body({ schema: addCreditsSchema }) body: AddCredits,
    @Headers('idempotency-key') header: string | undefined,
  ) {
    const { type, amount, expires_at: expiresAt, note = null } = body;
    const given = body.idempotency_key ?? (header === undefined ? null : readIdempotencyKey(header));
    const entry = await this.accounts.add({
      type,
      amount,
      expiresAt: expiresAt ? new Date(expiresAt) : null,
      note,
      key: toMovementKey(given, uuidv7()),
    });
    return toLedgerEntry(entry);
  }

  @Patch()
  @RequirePermission('tenant:manage_billing')
  @ApiOperation({ summary: 'Say from which balance on the tenant is warned' })
  @ApiOkResponse({ standardSchema: creditAccountSchema })
  @ApiProblems(422)
  async update(@Body({ schema: updateCreditsSchema }) body: UpdateCredits) {
    return toCreditAccount(await this.accounts.setLowThreshold(body.low_threshold));
  }

  @Get('ledger')
  @RequirePermission('tenant:manage_billing')
  @ApiOperation({
    summary: 'Read every movement of credits, the newest first',
    description:
      'An operation reserves what it may cost at most, commits what it has cost, and releases the rest. Nothing is ever ' +
      'changed or removed.',
  })
  @ApiOkResponse({ standardSchema: ledgerPageSchema })
  @ApiProblems(422)
  async ledger(@Query({ schema: listLedgerQuery }) query: ListLedger) {
    const { page, page_size: pageSize } = query;
    return toPage(
      await this.accounts.ledger(toLedgerFilter(query), { page, pageSize }),
      query,
      toLedgerEntry,
    );
  }

  @Get('export')
  @RequirePermission('tenant:manage_billing')
  @ApiOperation({ summary: 'Export the movements of credits, oldest first' })
  @ApiProduces('application/x-ndjson', 'text/csv')
  @ApiOkResponse({ schema: { type: 'string', format: 'binary', example: '{"id":"…","sequence":1,…}\n' } })
  @ApiProblems(422)
  async export(
    @Query({ schema: exportLedgerQuery }) query: ExportLedger,
    @RequestSignal() signal: AbortSignal,
  ) {
    const stream = await this.accounts.export(query.format, toLedgerFilter(query), signal);
    const today = new Date().toISOString().slice(0, 10);
    return new StreamableFile(stream, {
      type: CONTENT_TYPES[query.format],
      disposition: `attachment; filename="credits-${this.context.tenant.name}-${today}.${query.format}"`,
    });
  }
}
