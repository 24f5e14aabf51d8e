import type { BaseChatModel } from '@langchain/core/language_models/chat_models';
import type { AIMessageChunk, BaseMessage } from '@langchain/core/messages';
import type { StructuredToolInterface } from '@langchain/core/tools';
import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { z } from 'zod';
import type { ChatMessage } from '../../core/models/model.js';
import type { AgentTool } from '../agents/agent.js';
import { TOOL_DESCRIPTIONS } from './agent-prompt.js';

/** Searches of one step; whoever asks for more at once is told so. */
const MOST_CALLS = 4;
/** Characters of what is searched for. */
const LONGEST_QUERY = 1_000;

/** What a step may do, and how it is asked. */
export interface ModelCall {
  messages: BaseMessage[];
  tools: StructuredToolInterface[];
  /** The last step has to answer with what there is. */
  last: boolean;
}

/** What an agent stands on: whoever implements it looks after rights, costs and what is told to whom. */
export interface AgentGround {
  /** Asks the model. @throws whatever ends the run */
  call(call: ModelCall): Promise<AIMessageChunk>;
  /**
   * @param id of the call, as the model gave it
   * @returns what the model is told. @throws whatever ends the run
   */
  search(tool: AgentTool, query: string, id: string): Promise<string>;
}

export interface AgentRunOptions {
  /** Is not asked here: the ground does that. */
  model: BaseChatModel;
  tools: readonly AgentTool[];
  /** Calls of the model at most. */
  maxSteps: number;
  systemPrompt: string;
  history: readonly ChatMessage[];
  question: string;
  signal: AbortSignal;
}

/**
 * Lets langchain's agent search and answer, step by step. Its searches happen one after the other, so that what is told of
 * them is in their order.
 *
 * @throws what the ground throws, or the signal's reason
 */
export async function runAgent(options: AgentRunOptions, ground: AgentGround): Promise<void> {
  // Langchain is large: whoever has no agents does not load it.
  const [{ createAgent, createMiddleware }, { tool }, { AIMessage, HumanMessage, SystemMessage }] =
    await Promise.all([
      import('langchain'),
      import('@langchain/core/tools'),
      import('@langchain/core/messages'),
    ]);
  const stop = new AbortController();
  // Langchain listens once for each step and search.
  setMaxListeners(0, stop.signal);
  const abort = () => stop.abort(options.signal.reason);
  options.signal.addEventListener('abort', abort, { once: true });
  if (options.signal.aborted) abort();
  let steps = 0;
  let calls = 0;
  /** Ids of messages and calls. */
  const known = new Set<string>();
  let turn: Promise<unknown> = Promise.resolve();
  let fault: { error: unknown } | null = null;
  // Langchain tells the model of whatever a tool throws: what ends the run is kept apart.
  const fatal = (error: unknown): never => {
    fault ??= { error };
    stop.abort(error);
    throw error;
  };

  const search = (name: AgentTool, query: string, id: string): Promise<string> => {
    const mine = turn.then(async () => {
      stop.signal.throwIfAborted();
      if (++calls > MOST_CALLS) return `No more than ${MOST_CALLS} searches at once.`;
      // What no text of a database can hold is nothing to be looked for.
      const text = query.trim().slice(0, LONGEST_QUERY).toWellFormed().replaceAll('\0', ' ').trim();
      if (text === '') return 'There is nothing to search for: the query is empty.';
      return ground.search(name, text, id).catch(fatal);
    });
    turn = mine.catch(() => undefined);
    return mine;
  };
  const tools = options.tools.map(name =>
    tool(({ query }: { query: string }, config) => search(name, query, config.toolCall?.id ?? ''), {
      name,
      description: TOOL_DESCRIPTIONS[name],
      schema: z.object({ query: z.string().describe('What to look for: words, or a question') }),
    }),
  );
  const steering = createMiddleware({
    name: 'steering',
    wrapModelCall: async request => {
      stop.signal.throwIfAborted();
      steps++;
      calls = 0;
      // Of text alone: of content blocks not every server knows.
      const messages = [new SystemMessage(options.systemPrompt), ...request.messages];
      const call = { messages, tools, last: steps >= options.maxSteps };
      const answer = await ground.call(call).catch(fatal);
      // Langchain takes what has an id that it knows for the same thing again; some servers begin anew with each step.
      answer.id = unknownId(answer.id, known);
      answer.tool_calls = call.last
        ? []
        : (answer.tool_calls ?? []).map(asked => ({ ...asked, id: unknownId(asked.id, known) }));
      return answer;
    },
  });
  const agent = createAgent({ model: options.model, tools, middleware: [steering] });
  const said = options.history.map(({ role, content }) =>
    role === 'assistant' ? new AIMessage(content) : new HumanMessage(content),
  );
  const messages = [...said, new HumanMessage(options.question)];
  try {
    await agent.invoke({ messages }, { signal: stop.signal, recursionLimit: 4 * options.maxSteps + 10 });
  } catch (error) {
    options.signal.throwIfAborted();
    throw fault ? (fault as { error: unknown }).error : error;
  } finally {
    options.signal.removeEventListener('abort', abort);
    stop.abort();
  }
}

function unknownId(id: string | undefined, known: Set<string>): string {
  const own = id && !known.has(id) ? id : randomUUID();
  known.add(own);
  return own;
}
