/** A question to a chat model, whatever dialect it was asked in. */
export interface StubMessage {
  role: string;
  /** Text alone; pictures and the like are left out. */
  content: string;
}

/** A tool that the model wants to be called. */
export interface StubToolCall {
  name: string;
  args: Record<string, unknown>;
  /** [call_1, call_2 …] */
  id?: string;
}

/** What a chat model says, and which tools it asks for. */
export interface StubAnswer {
  text?: string;
  toolCalls?: StubToolCall[];
}

export interface StubChat {
  model: string;
  messages: StubMessage[];
  /** Names of the tools that it may ask for. */
  tools: string[];
  stream: boolean;
  /** The request as it came. */
  body: Record<string, any>;
}

interface Usage {
  input: number;
  output: number;
}

/** How one API words questions and answers. */
export interface Dialect {
  streamType: string;
  parse(body: any, path: string): Omit<StubChat, 'body'>;
  whole(chat: StubChat, answer: StubAnswer, usage: Usage | null): object;
  /** What comes before the first delta, each delta, each tool call, and the end: as it goes over the wire. */
  begin(chat: StubChat, usage: Usage | null): string;
  delta(chat: StubChat, text: string): string;
  toolCalls(chat: StubChat, calls: StubToolCall[]): string;
  end(chat: StubChat, answer: StubAnswer, usage: Usage | null): string;
  /** In the middle of a stream: the server says that it failed, or writes what is no answer. */
  failure(message: string): string;
  garbage: string;
}

const textOf = (content: unknown): string => {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content
    .map((part: { text?: unknown; content?: unknown }) =>
      typeof part.text === 'string' ? part.text : textOf(part.content),
    )
    .join('');
};
const idOf = (call: StubToolCall, index: number): string => call.id ?? `call_${index + 1}`;
const sse = (data: unknown, event?: string): string =>
  `${event ? `event: ${event}\n` : ''}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;
const line = (data: unknown): string => `${JSON.stringify(data)}\n`;
const asksForTools = ({ toolCalls = [] }: StubAnswer): boolean => toolCalls.length > 0;

const openaiChunk = (chat: StubChat, delta: object, finish: string | null = null, more: object = {}) =>
  sse({
    id: 'chatcmpl-1',
    created: 0,
    model: chat.model,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, finish_reason: finish }],
    ...more,
  });
const openaiUsage = (usage: Usage) => ({
  prompt_tokens: usage.input,
  completion_tokens: usage.output,
  total_tokens: usage.input + usage.output,
});
const openaiCalls = (calls: StubToolCall[], indexed: boolean) =>
  calls.map((call, index) => ({
    ...(indexed && { index }),
    id: idOf(call, index),
    type: 'function',
    function: { name: call.name, arguments: JSON.stringify(call.args) },
  }));

export const openai: Dialect = {
  streamType: 'text/event-stream',
  parse: body => ({
    model: body.model,
    messages: body.messages.map(({ role, content }: any) => ({ role, content: textOf(content) })),
    tools: (body.tools ?? []).map((tool: any) => tool.function?.name),
    stream: body.stream === true,
  }),
  whole: (chat, answer, usage) => ({
    id: 'chatcmpl-1',
    created: 0,
    model: chat.model,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: answer.text ?? null,
          ...(asksForTools(answer) && { tool_calls: openaiCalls(answer.toolCalls ?? [], false) }),
        },
        finish_reason: asksForTools(answer) ? 'tool_calls' : 'stop',
      },
    ],
    ...(usage && { usage: openaiUsage(usage) }),
  }),
  begin: chat => openaiChunk(chat, { role: 'assistant', content: '' }),
  delta: (chat, text) => openaiChunk(chat, { content: text }),
  toolCalls: (chat, calls) => openaiChunk(chat, { tool_calls: openaiCalls(calls, true) }),
  end: (chat, answer, usage) =>
    openaiChunk(chat, {}, asksForTools(answer) ? 'tool_calls' : 'stop') +
    (usage && chat.body['stream_options']?.include_usage
      ? sse({
          id: 'chatcmpl-1',
          created: 0,
          model: chat.model,
          object: 'chat.completion.chunk',
          choices: [],
          usage: openaiUsage(usage),
        })
      : '') +
    sse('[DONE]'),
  failure: message => sse({ error: { message, type: 'server_error', code: null } }),
  garbage: sse('<html><body>Welcome!'),
};

const anthropicContent = (answer: StubAnswer) => [
  ...(answer.text ? [{ type: 'text', text: answer.text }] : []),
  ...(answer.toolCalls ?? []).map((call, index) => ({
    type: 'tool_use',
    id: idOf(call, index),
    name: call.name,
    input: call.args,
  })),
];

export const anthropic: Dialect = {
  streamType: 'text/event-stream',
  parse: body => ({
    model: body.model,
    messages: [
      ...(body.system ? [{ role: 'system', content: textOf(body.system) }] : []),
      ...body.messages.map(({ role, content }: any) => ({ role, content: textOf(content) })),
    ],
    tools: (body.tools ?? []).map((tool: any) => tool.name),
    stream: body.stream === true,
  }),
  whole: (chat, answer, usage) => ({
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: chat.model,
    content: anthropicContent(answer),
    stop_reason: asksForTools(answer) ? 'tool_use' : 'end_turn',
    stop_sequence: null,
    usage: { input_tokens: usage?.input ?? 0, output_tokens: usage?.output ?? 0 },
  }),
  begin: (chat, usage) =>
    sse(
      {
        type: 'message_start',
        message: {
          id: 'msg_1',
          type: 'message',
          role: 'assistant',
          model: chat.model,
          content: [],
          stop_reason: null,
          stop_sequence: null,
          usage: { input_tokens: usage?.input ?? 0, output_tokens: 0 },
        },
      },
      'message_start',
    ) +
    sse(
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      'content_block_start',
    ),
  delta: (_, text) =>
    sse(
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } },
      'content_block_delta',
    ),
  toolCalls: (_, calls) =>
    calls
      .map((call, index) => {
        const at = index + 1;
        const block = { type: 'tool_use', id: idOf(call, index), name: call.name, input: {} };
        const delta = { type: 'input_json_delta', partial_json: JSON.stringify(call.args) };
        return (
          sse({ type: 'content_block_start', index: at, content_block: block }, 'content_block_start') +
          sse({ type: 'content_block_delta', index: at, delta }, 'content_block_delta') +
          sse({ type: 'content_block_stop', index: at }, 'content_block_stop')
        );
      })
      .join(''),
  end: (_, answer, usage) =>
    sse({ type: 'content_block_stop', index: 0 }, 'content_block_stop') +
    sse(
      {
        type: 'message_delta',
        delta: { stop_reason: asksForTools(answer) ? 'tool_use' : 'end_turn', stop_sequence: null },
        usage: { output_tokens: usage?.output ?? 0 },
      },
      'message_delta',
    ) +
    sse({ type: 'message_stop' }, 'message_stop'),
  failure: message => sse({ type: 'error', error: { type: 'overloaded_error', message } }, 'error'),
  garbage: sse('<html><body>Welcome!', 'content_block_delta'),
};

const ollamaLine = (chat: StubChat, message: object, more: object = {}) => ({
  model: chat.model,
  created_at: '2026-01-01T00:00:00Z',
  message: { role: 'assistant', content: '', ...message },
  done: false,
  ...more,
});
const ollamaEnd = (usage: Usage | null) => ({
  done: true,
  done_reason: 'stop',
  ...(usage && { prompt_eval_count: usage.input, eval_count: usage.output }),
});
const ollamaCalls = (calls: StubToolCall[]) => ({
  tool_calls: calls.map(({ name, args }) => ({ function: { name, arguments: args } })),
});

export const ollama: Dialect = {
  streamType: 'application/x-ndjson',
  parse: body => ({
    model: body.model,
    messages: body.messages.map(({ role, content }: any) => ({ role, content: textOf(content) })),
    tools: (body.tools ?? []).map((tool: any) => tool.function?.name),
    stream: body.stream !== false,
  }),
  whole: (chat, answer, usage) =>
    ollamaLine(
      chat,
      { content: answer.text ?? '', ...(asksForTools(answer) && ollamaCalls(answer.toolCalls ?? [])) },
      ollamaEnd(usage),
    ),
  begin: () => '',
  delta: (chat, text) => line(ollamaLine(chat, { content: text })),
  toolCalls: (chat, calls) => line(ollamaLine(chat, ollamaCalls(calls))),
  end: (chat, _, usage) => line(ollamaLine(chat, {}, ollamaEnd(usage))),
  failure: message => line({ error: message }),
  garbage: '<html><body>Welcome!\n',
};

const googleChunk = (parts: object[], more: object = {}, finish?: string) => ({
  candidates: [
    { index: 0, content: { role: 'model', parts }, ...(finish !== undefined && { finishReason: finish }) },
  ],
  ...more,
});
const googleUsage = (usage: Usage | null) =>
  usage && {
    usageMetadata: {
      promptTokenCount: usage.input,
      candidatesTokenCount: usage.output,
      totalTokenCount: usage.input + usage.output,
    },
  };
const googleCalls = (calls: StubToolCall[]) =>
  calls.map(({ name, args }) => ({ functionCall: { name, args } }));

export const google: Dialect = {
  streamType: 'text/event-stream',
  parse: (body, path) => ({
    model: /models\/([^:]+):/.exec(path)?.[1] ?? '',
    messages: [
      ...(body.systemInstruction ? [{ role: 'system', content: textOf(body.systemInstruction.parts) }] : []),
      ...body.contents.map(({ role, parts }: any) => ({ role, content: textOf(parts) })),
    ],
    tools: (body.tools ?? []).flatMap((tool: any) =>
      (tool.functionDeclarations ?? []).map(({ name }: any) => name as string),
    ),
    stream: path.includes(':streamGenerateContent'),
  }),
  whole: (_, answer, usage) =>
    googleChunk(
      [...(answer.text ? [{ text: answer.text }] : []), ...googleCalls(answer.toolCalls ?? [])],
      googleUsage(usage) ?? {},
      'STOP',
    ),
  begin: () => '',
  delta: (_, text) => sse(googleChunk([{ text }])),
  toolCalls: (_, calls) => sse(googleChunk(googleCalls(calls))),
  end: (_, __, usage) => sse(googleChunk([{ text: '' }], googleUsage(usage) ?? {}, 'STOP')),
  failure: message => sse({ error: { code: 503, message, status: 'UNAVAILABLE' } }),
  garbage: sse('<html><body>Welcome!'),
};
