import type { AIMessageChunk, BaseMessage } from '@langchain/core/messages';
import type { CreditsService, Spending } from '../../core/credits/credits.service.js';
import type { CreditLine } from '../../core/credits/price-list.js';
import { AnswerBounds } from '../../core/models/answer-bounds.js';
import { type LangchainModel, ModelError } from '../../core/models/model.js';
import { toModelError } from '../../core/models/model-fault.js';
import type { QuotasService } from '../../core/quotas/quotas.service.js';
import type { UsageService } from '../../core/usage/usage.service.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { Problem } from '../../foundation/http/problem.js';
import { type Agent, type AgentTool, MODE_OF_TOOL } from '../agents/agent.js';
import { type Answer, type AnswerEvent, EXTRACTIVE } from '../rag-query/answer-events.js';
import { AnswerReader, CitationNumbers } from '../rag-query/answer-reader.js';
import {
  type ExtractiveAnswer,
  NOT_FOUND,
  candidateSentences,
  extractiveAnswer,
} from '../rag-query/extractive-answer.js';
import { counted, tokenLines } from '../rag-query/paid-chat.service.js';
import type { Citation } from '../rag-query/rag-query.dto.js';
import { termWeights } from '../retrieval/ranking.js';
import type { SearchFields } from '../retrieval/retrieval.dto.js';
import type { RetrievalService } from '../retrieval/retrieval.service.js';
import type { AgentEvidence, Finding } from './agent-evidence.js';
import type { AgentGround, ModelCall } from './agent-run.js';
import type { AgentEvent } from './chat-events.js';

/** Tokens by which the tools are described to the model. */
const TOOLS = 150;
/** Tokens of a passage, and passages that are ordered anew: for what a search may cost before it is known what is found. */
const PASSAGE = 400;
const RERANKED = 40;

/** What an answer needs of the house. */
export interface AgentServices {
  retrieval: RetrievalService;
  credits: CreditsService;
  quotas: QuotasService;
  usage: UsageService;
}

/** Whose answer it is, and in which bounds. */
export interface AgentTask {
  kbId: string;
  agent: Agent;
  /** At least one, in the order in which they are asked. */
  models: readonly LangchainModel[];
  /** Name of the rerank model where its price counts; null: there is none. */
  rerank: string | null;
  evidence: AgentEvidence;
  /** Tokens that the model may write in one step. */
  maxTokens: number;
  /** Of each search, beside what the agent decides. */
  search: Omit<SearchFields, 'query' | 'mode' | 'top_k'>;
  signal: AbortSignal;
  tell(event: AgentEvent | AnswerEvent): void;
}

/**
 * An agent's answer as it comes about: what it looks for is searched under its caller's rights and paid for, what it says is
 * checked against what was found.
 */
export class AgentAnswer implements AgentGround {
  private readonly numbers: CitationNumbers;
  private readonly citations: Citation[] = [];
  private readonly usage = { promptTokens: 0, completionTokens: 0, credits: 0 };
  private readonly latency = { retrieval: 0, generation: 0 };
  private searches = 0;
  private text = '';
  private declined = false;
  /** Of the models, the one that is asked; it stays the same once it has answered. */
  private at = 0;
  /** Tokens of the latest prompt. */
  private prompt = 0;
  private answers = false;
  /** Sentences of what was found, where no model may be asked any more. */
  private quotes: (() => ExtractiveAnswer) | null = null;
  private quoted = false;

  constructor(
    private readonly services: AgentServices,
    private readonly task: AgentTask,
  ) {
    this.numbers = new CitationNumbers(task.evidence.passages, task.evidence);
  }

  /** As far as it has come. */
  get answer(): Answer {
    const { evidence } = this.task;
    const { text } = this;
    return {
      answered: text !== '' && evidence.passages.length > 0 && !this.declined,
      answer: text === '' ? NOT_FOUND : text,
      citations: this.citations,
      passages: evidence.passages,
      usage: { ...this.usage },
      model: this.quoted ? EXTRACTIVE : this.model.name,
      latency: { ...this.latency },
      cached: false,
      removedCitations: this.numbers.removed,
    };
  }

  async search(tool: AgentTool, query: string, id: string): Promise<string> {
    const { task } = this;
    if (task.evidence.isFull) return 'There is no room for more passages. Answer from those that there are.';
    if (await this.wouldOverspend(await this.searchLines(tool, query))) {
      return 'This answer may not cost more. Answer from the passages that there are.';
    }
    task.tell({ type: 'tool_call', id, tool, query });
    const started = performance.now();
    try {
      const { numbered, text } = task.evidence.add(await this.find(tool, query));
      this.searches++;
      task.tell({ type: 'tool_result', id, tool, passages: numbered });
      return text === '' ? 'Nothing was found.' : text;
    } catch (error) {
      task.signal.throwIfAborted();
      if (!isOfOneSearch(error)) throw error;
      task.tell({ type: 'tool_result', id, tool, passages: null });
      return 'The search failed. Another tool may do.';
    } finally {
      this.latency.retrieval += performance.now() - started;
    }
  }

  async call(call: ModelCall): Promise<AIMessageChunk> {
    await this.services.quotas.requireLlmTokens();
    let first: ModelError | null = null;
    for (;;) {
      try {
        return await this.ask(call);
      } catch (error) {
        const passes = error instanceof ModelError && error.retryable;
        if (!passes || this.answers) throw error;
        // What is told is why the one that was wanted failed.
        first ??= error;
        if (this.at + 1 >= this.task.models.length) throw first;
        this.at++;
      }
    }
  }

  private async ask({ messages, tools, last }: ModelCall): Promise<AIMessageChunk> {
    const { signal, maxTokens, agent } = this.task;
    const { name, model } = this.model;
    const prompt = messages.reduce((sum, message) => sum + tokensOf(message), TOOLS);
    const lines = tokenLines(name, prompt, maxTokens);
    this.prompt = prompt;
    // Where nothing would be left for the next step, this is the last one.
    const final = last || (await this.wouldOverspend([...lines, ...lines]));
    if (final && (await this.wouldOverspend(lines))) {
      if (this.usage.credits === 0) throw tooDear(agent);
      return this.stopShort();
    }
    const bound = model.bindTools?.(tools, final ? { tool_choice: 'none' } : {}) ?? model;
    const spending = await this.services.credits.begin({ operation: 'chat', lines });
    const started = performance.now();
    const step = this.step();
    const bounds = new AnswerBounds('The chat model', maxTokens);
    const asked = !signal.aborted;
    let whole: AIMessageChunk | null = null;
    let fault: { error: unknown } | null = null;
    try {
      for await (const chunk of (await bound.stream(messages, { signal })) as AsyncIterable<AIMessageChunk>) {
        this.answers = true;
        bounds.add(chunk);
        whole = whole === null ? chunk : whole.concat(chunk);
        step.say(chunk.text);
      }
    } catch (error) {
      fault = { error };
    }
    this.latency.generation += performance.now() - started;
    // Whoever leaves a model that has the prompt already pays for that.
    const used = whole !== null || (asked && signal.aborted);
    if (used) await this.settle(spending, prompt, whole);
    else await spending.release('the model gave nothing');
    signal.throwIfAborted();
    if (fault) throw toModelError('The chat model', fault.error);
    if (whole === null) throw toModelError('The chat model', new Error('It gave nothing.'));
    // Whatever else it asks for: there is nothing left for it.
    if (final) whole.tool_calls = [];
    step.end((whole.tool_calls?.length ?? 0) > 0);
    return whole;
  }

  /** Ends with what was said, or with quotes of what was found: it was paid for, and nothing more may be. */
  private async stopShort(): Promise<AIMessageChunk> {
    if (this.citations.length === 0 && this.quotes) {
      const { answered, answer, citations } = this.quotes();
      if (answered) {
        this.quoted = this.text === '';
        this.say(this.quoted ? answer : `\n\n${answer}`);
        for (const citation of citations) this.cite(citation);
      }
    }
    const { AIMessageChunk: Chunk } = await import('@langchain/core/messages');
    return new Chunk('');
  }

  /** What is said in one step. Until something was found it is held back: it may be no more than thinking aloud. */
  private step() {
    const { evidence } = this.task;
    const reader = new AnswerReader(this.numbers, { sources: evidence.sources, mark: evidence.mark });
    const holds = evidence.passages.length === 0;
    const separator = this.text === '' ? '' : '\n\n';
    let held = '';
    let shown = false;
    const show = (pieces: ReturnType<AnswerReader['push']>) => {
      for (const piece of pieces) {
        if ('cites' in piece) this.cite(evidence.citation(piece.cites));
        else this.say(shown ? piece.text : separator + piece.text);
        shown ||= 'text' in piece;
      }
    };
    return {
      say: (delta: string) => {
        if (holds) held += delta;
        else show(reader.push(delta));
      },
      /** @param goesOn with searches */
      end: (goesOn: boolean) => {
        // What rests on nothing that was found is no answer; before any search it may be one to a greeting.
        if (holds && (goesOn || this.searches > 0)) return;
        show(reader.push(held));
        show(reader.end());
        this.declined = !goesOn && reader.declined;
      },
    };
  }

  private say(text: string): void {
    this.text += text;
    this.task.tell({ type: 'token', text });
  }

  private cite(citation: Citation): void {
    this.citations.push(citation);
    this.task.tell({ type: 'citation', citation });
  }

  private get model(): LangchainModel {
    return this.task.models[this.at] as LangchainModel;
  }

  private searchFields(tool: AgentTool, query: string): SearchFields {
    const { agent, search } = this.task;
    return { ...search, query, mode: MODE_OF_TOOL[tool], top_k: agent.toolConfig.top_k };
  }

  /** What a search costs at most, as far as is known before it, and the answer to what it finds. */
  private async searchLines(tool: AgentTool, query: string): Promise<CreditLine[]> {
    const { kbId, agent, rerank, maxTokens } = this.task;
    if (agent.toolConfig.max_credits === null) return [];
    const lines = await this.services.retrieval.costLines(this.searchFields(tool, query), [kbId]);
    if (rerank !== null) {
      const quantity = RERANKED * (estimateTokens(query) + PASSAGE);
      lines.push({ operation: 'input_tokens', model: rerank, quantity });
    }
    const prompt = this.prompt + agent.toolConfig.top_k * PASSAGE;
    return [...lines, ...tokenLines(this.model.name, prompt, maxTokens)];
  }

  private async find(tool: AgentTool, query: string): Promise<Finding> {
    const { kbId, signal } = this.task;
    const { retrieval, credits } = this.services;
    const fields = this.searchFields(tool, query);
    const lines = await retrieval.costLines(fields, [kbId]);
    const { result, credits: paid } = await credits.spend({ operation: 'search', lines }, async meter => {
      const { retrieved, extended } = await retrieval.search(kbId, fields, signal, async (tx, found) => {
        const { passages } = found.result;
        const candidates = candidateSentences(passages);
        const lexemes = await retrieval.lexemes(
          tx,
          kbId,
          candidates.map(({ quote }) => quote),
        );
        // The first search is for the question as it was understood; a later one for what was missing.
        const quotes = () => extractiveAnswer(found.result, candidates, lexemes, found.models);
        this.quotes ??= passages.length > 0 ? quotes : null;
        return { passages, candidates, lexemes, weights: termWeights(found.result) };
      });
      meter.used(...retrieved.lines);
      this.usage.credits += retrieved.credits;
      return extended as Finding;
    });
    this.usage.credits += paid;
    return result;
  }

  /** Pays for what came, also of an answer that broke off. */
  private async settle(spending: Spending, prompt: number, whole: AIMessageChunk | null): Promise<void> {
    const { usage, quotas } = this.services;
    const { name } = this.model;
    const input = counted(whole?.usage_metadata?.input_tokens, prompt);
    const output = counted(whole?.usage_metadata?.output_tokens, whole === null ? 0 : tokensOf(whole));
    this.usage.promptTokens += input;
    this.usage.completionTokens += output;
    spending.used(...tokenLines(name, input, output));
    this.usage.credits += await spending.commit();
    usage.note({ model: name, inputTokens: input, outputTokens: output });
    await quotas.countLlmTokens(input + output);
  }

  private async wouldOverspend(lines: readonly CreditLine[]): Promise<boolean> {
    const most = this.task.agent.toolConfig.max_credits;
    if (most === null) return false;
    return this.usage.credits + (await this.services.credits.priceOf(lines)) > most;
  }
}

const tokensOf = (message: BaseMessage): number =>
  estimateTokens(message.text) + estimateTokens(JSON.stringify((message as AIMessageChunk).tool_calls ?? []));

/**
 * Whether another search may do better: a model of vectors is away or has changed, or there is no graph any more. What else
 * goes wrong ends the answer.
 */
const isOfOneSearch = (error: unknown): boolean =>
  error instanceof ModelError ||
  (error instanceof Problem && (error.status === 409 || error.code === 'graph_off'));

const tooDear = ({ toolConfig }: Agent): Problem =>
  new Problem(
    402,
    'agent_credits_exceeded',
    `One answer of this agent may cost ${toolConfig.max_credits} micro-credits at most; this one would cost more.`,
  );
