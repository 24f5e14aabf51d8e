import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { SigningKey } from '../../foundation/crypto/signing-key.js';
import { IsolationProbes } from '../../foundation/database/isolation-probes.js';
import { isolationSchema, toIsolation } from './isolation.dto.js';

@ApiTags('Platform')
@Controller('platform/isolation')
export class IsolationController {
  constructor(
    private readonly probes: IsolationProbes,
    private readonly key: SigningKey,
    @InjectEnv() private readonly env: Pick<Env, 'database'>,
  ) {}

  @Get()
  @RequirePermission('platform:audit')
  @ApiOperation({
    summary: 'Look whether the database keeps tenants apart, as every start does',
    description:
      'Reads from the catalogue what holds for each role and each table, asks each table for rows as nobody and as a ' +
      'tenant that does not exist, and looks at what pooled connections carry over. It tells no rows. The whole proof, ' +
      'over the API as well, is the command `verify-isolation`.',
  })
  @ApiOkResponse({ standardSchema: isolationSchema })
  async get() {
    return toIsolation(await this.probes.run(), this.key, this.env.database.mode === 'embedded');
  }
}
