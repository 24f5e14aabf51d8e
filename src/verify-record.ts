/** The seven tests of isolation. */
export const TEST_NAMES = ['T1', 'T2', 'T3', 'T4', 'T5', 'T6', 'T7'] as const;
export type TestName = (typeof TEST_NAMES)[number];

/** What each tests: for a table, and in plain words for whoever buys. */
export const TESTS: Readonly<Record<TestName, { title: string; explanation: string }>> = {
  T1: {
    title: 'Foreign ids',
    explanation:
      'Every address of the API that reads something was asked for things of another tenant, and for things of the same ' +
      'tenant that are closed to whoever asks. Each time the answer must be the very one that is given for something that ' +
      'does not exist, and no list may mention them.',
  },
  T2: {
    title: 'Injected fields',
    explanation:
      'Requests named another tenant, owner or role beside their own: in headers, cookies, the query and the body. Naming ' +
      'something must never open it, and requests that contradict themselves must be refused.',
  },
  T3: {
    title: 'Credentials',
    explanation:
      'Every address that reads something was tried with credentials that are missing, forged, revoked, of people who have ' +
      'left or were locked out, of a suspended tenant, and with roles and tokens that may not. Each must open exactly ' +
      'what it should.',
  },
  T4: {
    title: 'One verdict everywhere',
    explanation:
      'Some documents were open, some restricted, some in a closed knowledge base. Each person asked for each of them in ' +
      'every way that there is: lists, downloads, searches, answers, chats, the knowledge graph. All ways must agree on ' +
      'who sees what.',
  },
  T5: {
    title: 'The database',
    explanation:
      'The database itself keeps tenants apart, whatever the application does. It was checked that this protection stands ' +
      'for every table and every role, that nobody without a tenant sees a row, and that connections carry nothing from one ' +
      'request to the next.',
  },
  T6: {
    title: 'Neighbours in the search',
    explanation:
      'Another tenant stored copies of a question, packed as close around it as possible. The answers of the first tenant ' +
      'must not change: neither what is found, nor how much, nor the scores.',
  },
  T7: {
    title: 'Caches',
    explanation:
      'A second tenant with the same texts repeated the question of the first, word for word. Nothing that was remembered ' +
      'for one of them may come back for the other.',
  },
};

/** What did not hold. */
export interface VerifyFailure {
  /** A route, or a table. */
  where: string;
  /** Who asked, and with what. */
  who: string;
  expected: string;
  got: string;
}

export interface TestResult {
  test: TestName;
  cases: number;
  /** How many cases did not hold; of very many only the first are written down. */
  failure_count: number;
  failures: VerifyFailure[];
  /** What could not be tried here, and why; each a sentence. */
  left_out: string[];
}

/** What is shown while it goes on. */
export interface VerifyProgress {
  begin(test: TestName): void;
  /** So many steps are to come. */
  plan(steps: number): void;
  step(): void;
}

/** Failures of one test that are written down: a guard that is gone fails everywhere. */
const MOST_FAILURES = 2_000;
/** Requests under way at a time. */
const AT_ONCE = 6;
const LONGEST_GOT = 300;

/** What one test has tried, and found. */
export class TestRecord {
  cases = 0;
  private failed = 0;
  private readonly failures: VerifyFailure[] = [];
  readonly leftOut = new Set<string>();

  constructor(
    readonly test: TestName,
    private readonly progress: VerifyProgress,
    private readonly signal: AbortSignal,
  ) {}

  /** One case. */
  check(ok: boolean, failure: () => VerifyFailure): void {
    this.cases++;
    if (ok) return;
    this.failed++;
    if (this.failures.length >= MOST_FAILURES) return;
    const { got, ...rest } = failure();
    this.failures.push({ ...rest, got: got.length > LONGEST_GOT ? `${got.slice(0, LONGEST_GOT)} …` : got });
  }

  /** Works through a list, some at a time. After the first error nothing more begins, and nothing is under way any more. */
  async each<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
    this.progress.plan(items.length);
    let next = 0;
    const worker = async () => {
      try {
        while (next < items.length) {
          this.signal.throwIfAborted();
          await work(items[next++] as Item);
          this.progress.step();
        }
      } catch (error) {
        next = items.length;
        throw error;
      }
    };
    const ended = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
    const failed = ended.find(({ status }) => status === 'rejected');
    if (failed) throw (failed as PromiseRejectedResult).reason;
  }

  get result(): TestResult {
    const cut =
      this.failed > this.failures.length
        ? [`Of ${this.failed} failures only the first ${this.failures.length} are listed.`]
        : [];
    return {
      test: this.test,
      cases: this.cases,
      failure_count: this.failed,
      failures: this.failures,
      left_out: [...cut, ...[...this.leftOut].toSorted()],
    };
  }
}
