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
import { toPage } from '../../foundation/http/pagination.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import {
  type CreateAgent,
  type ListAgents,
  type UpdateAgent,
  agentPageSchema,
  agentSchema,
  createAgentSchema,
  listAgentsQuery,
  toAgent,
  updateAgentSchema,
} from './agents.dto.js';
import { AgentsService } from './agents.service.js';

const ApiAgentParam = (): MethodDecorator =>
  ApiParam({ name: 'agent', description: 'Id or slug of the agent', example: 'support-bot' });

@ApiTags('Agents')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/agents')
export class AgentsController {
  constructor(private readonly agents: AgentsService) {}

  @Get()
  @RequirePermission('agent:read')
  @ApiOperation({ summary: 'List the agents of a knowledge base' })
  @ApiOkResponse({ standardSchema: agentPageSchema })
  @ApiProblems(422)
  async list(@Param('kb') kb: string, @Query({ schema: listAgentsQuery }) query: ListAgents) {
    return toPage(await this.agents.list(kb, query), query, toAgent);
  }

  @Post()
  @RequirePermission('agent:create')
  @ApiOperation({
    summary: 'Create an agent',
    description:
      'It answers with its own prompt, model and tools from what is in the knowledge base, which all its agents share, ' +
      'and shows nobody what they may not see themselves.',
  })
  @ApiCreatedResponse({ standardSchema: agentSchema })
  @ApiProblems(409, 422)
  async create(@Param('kb') kb: string, @Body({ schema: createAgentSchema }) body: CreateAgent) {
    return toAgent(await this.agents.create(kb, body));
  }

  @Get(':agent')
  @ApiAgentParam()
  @RequirePermission('agent:read')
  @ApiOperation({ summary: 'Read an agent' })
  @ApiOkResponse({ standardSchema: agentSchema })
  async get(@Param('kb') kb: string, @Param('agent') agent: string) {
    return toAgent(await this.agents.get(kb, agent));
  }

  @Patch(':agent')
  @ApiIfMatch()
  @ApiAgentParam()
  @RequirePermission('agent:update')
  @ApiOperation({ summary: 'Change some fields of an agent; `tool_config` is replaced whole' })
  @ApiOkResponse({ standardSchema: agentSchema })
  @ApiProblems(409, 422)
  async update(
    @Param('kb') kb: string,
    @Param('agent') agent: string,
    @Body({ schema: updateAgentSchema }) body: UpdateAgent,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toAgent(await this.agents.update(kb, agent, body, ifMatch));
  }

  @Delete(':agent')
  @HttpCode(204)
  @ApiAgentParam()
  @RequirePermission('agent:delete')
  @ApiOperation({ summary: 'Delete an agent; chats with it stay' })
  @ApiNoContentResponse()
  async delete(@Param('kb') kb: string, @Param('agent') agent: string) {
    await this.agents.delete(kb, agent);
  }
}
