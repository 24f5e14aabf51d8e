import { Body, Controller, HttpCode, Post, Req, Res } from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiConsumes,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { jobSchema, toJob } from '../../core/jobs/jobs.dto.js';
import type { Job } from '../../core/jobs/jobs.repository.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { readImport } from './import-upload.js';
import {
  type BulkMembers,
  type ImportResult,
  bulkMembersSchema,
  importResultSchema,
  toRawRows,
} from './member-import.dto.js';
import { MemberImportService } from './member-import.service.js';

const startedSchema = jobSchema.extend({ job_id: z.uuid() }).meta({ id: 'StartedMemberImport' });

const HOW =
  'All rows are checked first. Where one is not valid, nothing is done, unless `on_error` is `skip`. Up to 1,000 rows ' +
  'are done at once; more become a job, whose result is then what is otherwise answered here.';

@ApiTags('Members')
@ApiTenantParam()
@Controller('tenants/:tenant/members')
export class MemberImportController {
  constructor(private readonly imports: MemberImportService) {}

  @Post('bulk')
  @HttpCode(200)
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Add up to 10,000 people', description: HOW })
  @ApiOkResponse({ standardSchema: importResultSchema })
  @ApiAcceptedResponse({ standardSchema: startedSchema })
  @ApiProblems(413, 422)
  async bulk(
    @Body({ schema: bulkMembersSchema }) body: BulkMembers,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    const result = await this.imports.import(toRawRows(body.users), {
      dryRun: body.dry_run,
      onError: body.on_error,
      sendMails: body.send_welcome_emails,
      withTokens: body.generate_passwords,
    });
    return toAnswer(result, reply);
  }

  @Post('import')
  @HttpCode(200)
  @RequirePermission('tenant:manage_members')
  @ApiOperation({
    summary: 'Add up to 10,000 people from a CSV file',
    description: `${HOW} The columns are username, email, full_name and role, in any order; UTF-8, at most 5 MB.`,
  })
  @ApiConsumes('multipart/form-data')
  @ApiBody({
    schema: {
      type: 'object',
      required: ['file'],
      properties: {
        file: { type: 'string', format: 'binary' },
        format: { type: 'string', enum: ['csv'], default: 'csv' },
        send_notifications: { type: 'boolean', default: false },
        dry_run: { type: 'boolean', default: false },
        on_error: { type: 'string', enum: ['abort', 'skip'], default: 'abort' },
      },
    },
  })
  @ApiOkResponse({ standardSchema: importResultSchema })
  @ApiAcceptedResponse({ standardSchema: startedSchema })
  @ApiProblems(413, 415, 422)
  async import(@Req() request: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply) {
    const { rows, fields } = await readImport(request);
    const result = await this.imports.import(rows, {
      dryRun: fields.dry_run,
      onError: fields.on_error,
      sendMails: fields.send_notifications,
      withTokens: true,
    });
    return toAnswer(result, reply);
  }
}

function toAnswer(result: ImportResult | Job, reply: FastifyReply) {
  if ('summary' in result) return result;
  void reply.code(202);
  return { job_id: result.id, ...toJob(result) };
}
