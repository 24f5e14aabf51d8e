import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { AGENT_TOOLS, type Agent } from './agent.js';

const nameField = z.string().trim().min(1).max(200).meta({ example: 'Support Bot' });
const slugField = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?$/, 'must be lowercase letters, digits, dashes and underscores')
  .refine(slug => !z.uuid().safeParse(slug).success, 'must not be a UUID')
  .meta({ example: 'support-bot' });
const descriptionField = z.string().max(2000);
const systemPromptField = z
  .string()
  .max(20_000)
  .nullable()
  .describe('Comes before the rules for answers; null: the knowledge base’s')
  .meta({ example: 'You are a helpful support agent.' });
const modelField = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .nullable()
  .describe('Id or name of a chat model; null: the knowledge base’s');
const temperatureField = z.number().min(0).max(2).nullable().describe('Null: the knowledge base’s');
const maxTokensField = z
  .int()
  .min(1)
  .max(100_000)
  .nullable()
  .describe('Tokens of an answer at most; null: the knowledge base’s');

const toolsField = z
  .array(z.enum(AGENT_TOOLS))
  .max(10)
  .transform(tools => AGENT_TOOLS.filter(tool => tools.includes(tool)))
  .describe(
    'What it may search with, as often as its steps allow. Without any, it answers from what one search for the ' +
      'question finds. Without a chat model it searches once with what is named here, and quotes. `graph_search` only ' +
      'where the knowledge base has a graph.',
  )
  .meta({ example: ['vector_search', 'hybrid_search'] });

const toolConfigField = z
  .strictObject({
    max_steps: z
      .int()
      .min(1)
      .max(20)
      .default(6)
      .describe('Calls of the chat model for one answer; the last one has to answer [6]'),
    top_k: z.int().min(1).max(20).default(5).describe('Passages of one search [5]'),
    max_credits: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .nullable()
      .default(null)
      .describe(
        'Micro-credits that one answer may cost; an answer that comes near ends with what was said, or with quotes. ' +
          'Null: no limit of its own',
      ),
  })
  .meta({ id: 'AgentToolConfig', example: { max_steps: 4, top_k: 5 } });

const DEFAULT_TOOL_CONFIG = { max_steps: 6, top_k: 5, max_credits: null };

export const createAgentSchema = z
  .strictObject({
    name: nameField,
    slug: slugField.optional().describe('Made from the name where it is missing'),
    description: descriptionField.default(''),
    system_prompt: systemPromptField.default(null),
    model: modelField.default(null),
    temperature: temperatureField.default(null),
    max_tokens: maxTokensField.default(null),
    enabled_tools: toolsField.default(['hybrid_search']),
    tool_config: toolConfigField.default(DEFAULT_TOOL_CONFIG),
    is_active: z.boolean().default(true),
  })
  .meta({
    id: 'CreateAgent',
    example: {
      name: 'Support Bot',
      slug: 'support-bot',
      description: 'Helpful support agent',
      system_prompt: 'You are a helpful support agent.',
      temperature: 0.7,
      enabled_tools: ['vector_search', 'hybrid_search'],
    },
  });

export const updateAgentSchema = z
  .strictObject({
    name: nameField.optional(),
    slug: slugField.optional(),
    description: descriptionField.optional(),
    system_prompt: systemPromptField.optional(),
    model: modelField.optional(),
    temperature: temperatureField.optional(),
    max_tokens: maxTokensField.optional(),
    enabled_tools: toolsField.optional(),
    tool_config: toolConfigField.optional().describe('Replaced whole'),
    is_active: z.boolean().optional().describe('While false, it answers nobody'),
  })
  .meta({ id: 'UpdateAgent', example: { temperature: 0.8, is_active: false } });

export const listAgentsQuery = listQuery(['created_at', 'name'], {
  is_active: z
    .enum(['true', 'false'])
    .transform(value => value === 'true')
    .optional(),
});

export const agentSchema = z
  .object({
    id: z.uuid(),
    kb_id: z.uuid(),
    name: z.string().meta({ example: 'Support Bot' }),
    slug: z.string().meta({ example: 'support-bot' }),
    description: z.string(),
    system_prompt: z.string().nullable().describe('Null, of this and the next three: the knowledge base’s'),
    model: z.string().nullable(),
    temperature: z.number().nullable(),
    max_tokens: z.int().nullable(),
    enabled_tools: z.array(z.enum(AGENT_TOOLS)),
    tool_config: z.object({
      max_steps: z.int(),
      top_k: z.int(),
      max_credits: z.int().nullable(),
    }),
    is_active: z.boolean(),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'Agent' });

export const agentPageSchema = pageSchema(agentSchema, 'AgentPage');

export type CreateAgent = z.infer<typeof createAgentSchema>;
export type UpdateAgent = z.infer<typeof updateAgentSchema>;
export type ListAgents = z.infer<typeof listAgentsQuery>;

export function toAgent(agent: Agent): z.infer<typeof agentSchema> {
  return {
    id: agent.id,
    kb_id: agent.kbId,
    name: agent.name,
    slug: agent.slug,
    description: agent.description,
    system_prompt: agent.systemPrompt,
    model: agent.model,
    temperature: agent.temperature,
    max_tokens: agent.maxTokens,
    enabled_tools: [...agent.enabledTools],
    tool_config: agent.toolConfig,
    is_active: agent.isActive,
    created_by: agent.createdBy,
    created_at: agent.createdAt.toISOString(),
    updated_at: agent.updatedAt.toISOString(),
  };
}
