import { type LocalFile, sha256Of } from './ingest-files.js';

/** A document, as far as an ingestion of a folder looks at it. */
export interface IngestedDocument {
  id: string;
  status: 'queued' | 'processing' | 'ready' | 'failed' | 'cancelled' | 'deleting';
  /** Of its newest content. */
  sha256: string | null;
  error: { code: string; message: string } | null;
}

/** A file that was not taken, and why. */
export class FileRefused extends Error {
  override readonly name = 'FileRefused';

  constructor(
    readonly code: string,
    message: string,
    /** The document that has this content already. */
    readonly documentId: string | null = null,
  ) {
    super(message);
  }
}

/** The knowledge base that files are brought into, wherever it is. */
export interface IngestTarget {
  /** The document that is made of the file of this path; null where there is none. */
  find(sourceId: string): Promise<IngestedDocument | null>;
  /** @throws FileRefused */
  add(file: LocalFile): Promise<IngestedDocument>;
  /** Those of these that have ended, or some of them; others may be left out. One that was deleted is `deleting`. */
  look(ids: readonly string[]): Promise<IngestedDocument[]>;
}

export interface FailedFile {
  sourceId: string;
  code: string;
  message: string;
}

/** How many files stand where; `total` is all of them. */
export interface IngestCounts {
  total: number;
  /** Ingested by this run. */
  ready: number;
  /** Ingested before, and the same since. */
  unchanged: number;
  failed: number;
  /** Taken, and not ingested yet. */
  waiting: number;
}

export interface IngestOptions {
  /** Files that are brought in at a time. */
  concurrency: number;
  /** Ends the run: what was taken stays so. */
  signal: AbortSignal;
  onChange(counts: IngestCounts): void;
}

/** Milliseconds between two looks at what has been taken; the longer nothing ends, the longer. */
const SHORTEST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** Documents of one look. */
const LOOK_AT = 500;
/** How many may wait before no more are brought in: each is looked at until it has ended. */
const MOST_WAITING = 2_000;

const CHANGED_MEANWHILE = 'The file was changed or removed while it was read.';

/**
 * Brings files into a knowledge base and waits until all have been ingested. Run again, it goes on where it ended: what is
 * there in the same content is left alone, what has failed is tried again, what has changed becomes a new version.
 */
export class IngestRun {
  readonly failed: FailedFile[] = [];
  private readonly counts: IngestCounts;
  /** By id of the document, in the order in which they were taken; several files may have the same content. */
  private readonly waiting = new Map<string, LocalFile[]>();

  constructor(
    private readonly target: IngestTarget,
    private readonly files: readonly LocalFile[],
    private readonly options: IngestOptions,
  ) {
    this.counts = { total: files.length, ready: 0, unchanged: 0, failed: 0, waiting: 0 };
  }

  /** @throws whatever the target throws that is not about one file */
  async run(): Promise<IngestCounts> {
    const { concurrency, signal } = this.options;
    const rest = this.files.values();
    const stop = new AbortController();
    const ended = AbortSignal.any([signal, stop.signal]);
    const bring = async () => {
      for (const file of rest) {
        if (ended.aborted) return;
        await this.bring(file, ended);
        while (this.counts.waiting >= MOST_WAITING && !ended.aborted) await pause(SHORTEST_PAUSE_MS, ended);
      }
    };
    const state = { bringing: true };
    const look = async () => {
      let between = SHORTEST_PAUSE_MS;
      while ((state.bringing || this.waiting.size > 0) && !ended.aborted) {
        await pause(between, ended);
        const restart = this.waiting.size === 0 || (await this.look());
        between = restart ? SHORTEST_PAUSE_MS : Math.min(between * 2, LONGEST_PAUSE_MS);
      }
    };
    // The first fault ends all of it.
    const orStop = <T>(work: Promise<T>) =>
      work.catch((error: unknown) => {
        stop.abort();
        throw error;
      });
    const bringing = Promise.all(Array.from({ length: concurrency }, () => orStop(bring()))).finally(
      () => (state.bringing = false),
    );
    const outcomes = await Promise.allSettled([bringing, orStop(look())]);
    const fault = outcomes.find(outcome => outcome.status === 'rejected');
    if (fault && !signal.aborted) throw fault.reason;
    this.failed.sort((a, b) => (a.sourceId < b.sourceId ? -1 : 1));
    return this.counts;
  }

  private async bring(file: LocalFile, ended: AbortSignal): Promise<void> {
    try {
      const known = await this.target.find(file.sourceId);
      if (known && known.sha256 === (await sha256Of(file.path))) {
        if (known.status === 'ready') return this.count('unchanged');
        if (!hasEnded(known)) return this.wait(known.id, file);
      }
      const document = await this.target.add(file);
      if (document.status === 'ready') this.count('ready');
      else this.wait(document.id, file);
    } catch (error) {
      if (ended.aborted) return;
      if (error instanceof FileRefused) await this.refused(file, error);
      else if (isFileFault(error)) this.fail(file, 'unreadable', readingFault(error));
      else throw error;
    }
  }

  /** The same content may be there as another document, ingested or on its way. */
  private async refused(file: LocalFile, { code, message, documentId }: FileRefused): Promise<void> {
    if (code !== 'duplicate_document') return this.fail(file, code, message);
    if (documentId === null) this.count('unchanged');
    else this.wait(documentId, file);
  }

  /** @returns whether anything has ended */
  private async look(): Promise<boolean> {
    const ids = [...this.waiting.keys()].slice(0, LOOK_AT);
    if (ids.length === 0) return false;
    let ended = false;
    for (const document of await this.target.look(ids)) {
      const files = this.waiting.get(document.id);
      if (!files || !hasEnded(document)) continue;
      this.waiting.delete(document.id);
      this.counts.waiting -= files.length;
      for (const file of files) this.settle(file, document);
      ended = true;
    }
    return ended;
  }

  private settle(file: LocalFile, { status, error }: IngestedDocument): void {
    if (status === 'ready') return this.count('ready');
    const gone = status === 'deleting';
    const message = gone ? 'Somebody has deleted it meanwhile.' : `Its ingestion was ${status}.`;
    this.fail(file, error?.code ?? (gone ? 'deleted' : status), error?.message ?? message);
  }

  private wait(id: string, file: LocalFile): void {
    this.waiting.set(id, [...(this.waiting.get(id) ?? []), file]);
    this.count('waiting');
  }

  private fail({ sourceId }: LocalFile, code: string, message: string): void {
    this.failed.push({ sourceId, code, message });
    this.count('failed');
  }

  private count(what: Exclude<keyof IngestCounts, 'total'>): void {
    this.counts[what]++;
    this.options.onChange(this.counts);
  }
}

const hasEnded = ({ status }: IngestedDocument): boolean => status !== 'queued' && status !== 'processing';

const FILE_FAULTS: Record<string, string> = {
  ENOENT: CHANGED_MEANWHILE,
  EACCES: 'It may not be read by whoever runs this.',
  EPERM: 'It may not be read by whoever runs this.',
  EISDIR: CHANGED_MEANWHILE,
  EIO: 'The disk does not give it.',
};

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const isFileFault = (error: unknown): boolean => error instanceof Error && codeOf(error) in FILE_FAULTS;
const readingFault = (error: unknown): string => FILE_FAULTS[codeOf(error)] as string;

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
    if (signal.aborted) done();
  });
