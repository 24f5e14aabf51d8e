/** A change of one place in a file. */
export interface Edit {
  /** From the root of the project. */
  file: string;
  /** Stands in the file exactly once. */
  find: string;
  replace: string;
}

/** A fault that somebody might build in one day, and that some test has to notice. */
export interface Fault {
  /** In small letters, with hyphens. */
  name: string;
  /** What can be done with it that must not be possible. */
  breaks: string;
  /** Where it is one of the code. */
  edits?: readonly Edit[];
  /** Where it is one of the database: runs as the last migration. */
  sql?: string;
  /**
   * Where it should be noticed, in the order in which they are tried: files of tests from the root of the project, and behind
   * a `#` a part of the names of the tests that are enough there.
   */
  specs: readonly string[];
  /** Why nobody but a crash can notice it, where that is so: a 500, or a preparation that fails. */
  crashes?: string;
  /** It is one of a role, which belongs to a whole server and not to one database of it. */
  embeddedOnly?: true;
}

/** What a fault does to a copy of the project. */
export interface Seed {
  edits: readonly Edit[];
  /** Contents of files that there were none of, by path. */
  files: Readonly<Record<string, string>>;
}

/** The list of faults says something of a file that is not true any more. */
export class EditError extends Error {
  override readonly name = 'EditError';
}

const MIGRATION = 'migrations/9999999999999-seed-fault.ts';
const START = 'src/application.ts';

/** In the root of a copy: what the check of the catalogue says at the first start with a fault. */
export const FOUND_AT_START = 'found-at-start.txt';

/**
 * A fault of the database would stop every start, and no test would have to notice it. So a process writes down what its
 * first check of the catalogue finds, lets that pass, and nothing that comes on top of it.
 */
const LET_START: readonly Edit[] = [
  {
    file: START,
    find: 'import { checkCatalogue } from',
    replace: 'import { checkCatalogue, IsolationError } from',
  },
  {
    file: START,
    find: '    await checkCatalogue(dataSource);\n',
    replace: `    const found = await checkCatalogue(dataSource).then(() => '', (error: Error) => error.message);
    const here = globalThis as { foundAtFirst?: string };
    if (here.foundAtFirst === undefined) process.getBuiltinModule('node:fs').writeFileSync('${FOUND_AT_START}', found);
    if (found !== (here.foundAtFirst ??= found)) throw new IsolationError(found);
`,
  },
];

export function seedOf({ edits = [], sql }: Fault): Seed {
  if (sql === undefined) return { edits, files: {} };
  const listed: readonly Edit[] = [
    {
      file: 'migrations/all.ts',
      find: '/** In the order in which they run. */',
      replace: `import { SeedFault9999999999999 } from './9999999999999-seed-fault.js';\n`,
    },
    { file: 'migrations/all.ts', find: '\n];\n', replace: '\n  SeedFault9999999999999,\n];\n' },
  ];
  const migration = `import type { MigrationInterface, QueryRunner } from 'typeorm';

export class SeedFault9999999999999 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(${JSON.stringify(sql)});
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
`;
  return { edits: [...listed, ...LET_START, ...edits], files: { [MIGRATION]: migration } };
}

/** @throws EditError where the text is not there once */
export function edited(content: string, { file, find, replace }: Edit): string {
  const times = content.split(find).length - 1;
  if (times !== 1) throw new EditError(`This must stand once in ${file}, and does ${times} times:\n${find}`);
  // As a function, for a dollar sign in a text means something else.
  return content.replace(find, () => replace);
}
