import { Presets, SingleBar } from 'cli-progress';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import {
  type Command,
  INTERRUPTED,
  type Output,
  UsageError,
  interruption,
  printable,
  withApplication,
} from './cli-command.js';
import { type ChosenServer, SERVER_OPTIONS, serverOf } from './cli-server.js';
import { readQuestions } from './eval-questions.js';
import { evaluationTable } from './eval-table.js';
import {
  type EvaluatedKb,
  type EvaluationTarget,
  EvaluationsHere,
  EvaluationsOverHttp,
} from './eval-target.js';
import {
  type CreateEvaluation,
  type WireEvaluation,
  createEvaluationSchema,
} from './features/evaluation/evaluations.dto.js';
import { parseFields } from './foundation/http/validation.pipe.js';

export const EVAL_USAGE = `  eval                Asks questions whose answers are known, and measures how good the answers are. Prints a line for each
                      way of asking, with those of earlier runs over the same questions. Ends with 0 where every question
                      could be asked, with 1 where some could not.
    --tenant TENANT           id or name
    --kb KB                   id or slug
    --questions FILE          JSON lines {"question", "answers", "answerable", "relevant": [{"document_id" | "title" | "source" |
                              "text"}]}, or CSV with columns of these names, several values of one separated by |
    --mode MODE,…             ways of searching, side by side [as asked without one]
    --set FIELD=VALUE         another field of a question, such as top_k=5 or rerank=true; may be given several times
    --search-only             looks for passages, and makes no answers
    --name TEXT               under which the run is kept
    --earlier N               earlier runs that are shown beside it, 0 to 20 [3]
    --json                    prints all figures as JSON
    --url URL                 a running server; where it is missing, this process opens the database itself
    --token TOKEN             for that server, with kb:read, kb:update and query:run
    --token-file FILE         the same, out of a file: what is typed, others on this machine can see
`;

/** Milliseconds between two looks at how far it is; the longer it takes, the longer. */
const SHORTEST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 3_000;
/** Milliseconds between two lines where no bar can be drawn. */
const LINE_EVERY_MS = 10_000;

interface EvalSettings {
  of: EvaluatedKb;
  questions: string;
  /** As they are sent. */
  variants: Array<Record<string, unknown>>;
  name: string | undefined;
  earlier: number;
  json: boolean;
  /** Null: this process opens the database. */
  server: ChosenServer | null;
}

/** @throws UsageError */
export function evaluate(args: string[]): Command {
  const settings = settingsOf(args);
  return async (env, output) => {
    const input = parseFields(createEvaluationSchema, {
      name: settings.name,
      questions: readQuestions(settings.questions),
      variants: settings.variants,
    });
    const interrupted = interruption(output);
    const { signal } = interrupted;
    try {
      if (settings.server) {
        const target = new EvaluationsOverHttp({ ...settings.server, signal }, settings.of);
        return await run(target, input, settings, signal, output);
      }
      return await withApplication(
        env,
        output,
        async nest => run(await EvaluationsHere.open(nest, settings.of), input, settings, signal, output),
        { http: false, jobs: true },
      );
    } catch (error) {
      if (!signal.aborted) throw error;
      return INTERRUPTED;
    } finally {
      interrupted.end();
    }
  };
}

async function run(
  target: EvaluationTarget,
  input: CreateEvaluation,
  { server, earlier, json }: EvalSettings,
  signal: AbortSignal,
  output: Output,
): Promise<number> {
  const started = await target.start(input);
  const ended = await untilEnded(target, started, signal, output).catch((error: unknown) => {
    if (!signal.aborted) throw error;
    output.note(
      `The evaluation ${started.id} goes on ${server ? 'on the server' : 'as soon as the server is started'}.`,
    );
    throw error;
  });
  const before = (await target.ofSameQuestions(ended)).filter(({ id }) => id !== ended.id).slice(0, earlier);
  if (json) output.result(JSON.stringify({ evaluation: ended, earlier: before }, null, 2));
  else for (const line of evaluationTable([ended, ...before])) output.result(printable(line));
  if (ended.error) output.note(`${ended.error.code}: ${printable(ended.error.message)}`);
  else if (ended.status !== 'done') output.note(`The evaluation was ${ended.status}.`);
  const failed = ended.figures?.some(figures => figures.failed > 0) ?? true;
  return ended.status === 'done' && !failed ? 0 : 1;
}

async function untilEnded(
  target: EvaluationTarget,
  started: WireEvaluation,
  signal: AbortSignal,
  output: Output,
): Promise<WireEvaluation> {
  const total = started.question_count * started.variants.length;
  const progress = output.terminal ? bar(output.terminal, total) : lines(output, total);
  try {
    let evaluation = started;
    for (let pause = SHORTEST_PAUSE_MS; ; pause = Math.min(pause * 1.5, LONGEST_PAUSE_MS)) {
      if (evaluation.status !== 'queued' && evaluation.status !== 'running') return evaluation;
      await sleep(pause, undefined, { signal });
      evaluation = await target.get(started.id);
      progress.show(Math.round(evaluation.progress * total));
    }
  } finally {
    progress.end();
  }
}

interface Progress {
  show(this: void, asked: number): void;
  end(): void;
}

function bar(terminal: NodeJS.WriteStream, total: number): Progress {
  const drawn = new SingleBar(
    {
      stream: terminal,
      format: '{bar} {value}/{total} asked · {eta_formatted} left',
      hideCursor: true,
      clearOnComplete: true,
      // Ctrl-C is for the command, which ends cleanly.
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  drawn.start(total, 0);
  return { show: asked => drawn.update(asked), end: () => drawn.stop() };
}

function lines(output: Output, total: number): Progress {
  let last = Date.now();
  return {
    show: asked => {
      if (Date.now() - last < LINE_EVERY_MS) return;
      last = Date.now();
      output.note(`${asked} of ${total} asked`);
    },
    end: () => undefined,
  };
}

function settingsOf(args: string[]): EvalSettings {
  const values = parseOptions(args);
  const { tenant, kb, questions } = values;
  if (tenant === undefined || kb === undefined || questions === undefined)
    throw new UsageError('eval needs --tenant, --kb and --questions.');
  return {
    of: { tenant, kb },
    questions,
    variants: variantsOf(values),
    name: values.name,
    earlier: earlierOf(values.earlier),
    json: values.json ?? false,
    server: serverOf(values),
  };
}

function variantsOf({
  mode,
  set = [],
  'search-only': searchOnly = false,
}: Pick<ReturnType<typeof parseOptions>, 'mode' | 'set' | 'search-only'>): EvalSettings['variants'] {
  const fields = { ...(searchOnly && { answer: false }), ...Object.fromEntries(set.map(fieldOf)) };
  const modes = mode === undefined ? [] : mode.split(',').map(name => name.trim());
  if (modes.includes('')) throw new UsageError('--mode is one mode, or several with commas between them.');
  if (modes.length === 0) return [{ name: 'default', ...fields }];
  return [...new Set(modes)].map(name => ({ name, mode: name, ...fields }));
}

/** A value that is no JSON is a text. */
function fieldOf(text: string): [string, unknown] {
  const at = text.indexOf('=');
  if (at < 1) throw new UsageError('--set is FIELD=VALUE.');
  const [field, value] = [text.slice(0, at), text.slice(at + 1)];
  try {
    return [field, JSON.parse(value)];
  } catch {
    return [field, value];
  }
}

function earlierOf(text = '3'): number {
  const number = /^\d{1,2}$/.test(text) ? Number(text) : Infinity;
  if (number > 20) throw new UsageError('--earlier is a whole number from 0 to 20.');
  return number;
}

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;

function parseOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        tenant: text,
        kb: text,
        questions: text,
        mode: text,
        set: { type: 'string', multiple: true },
        'search-only': flag,
        name: text,
        earlier: text,
        json: flag,
        ...SERVER_OPTIONS,
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
