import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Edit, type Seed, edited } from './fault.js';

export const PROJECT = join(import.meta.dirname, '../..');

/** What a run of tests does not need, or must not share. */
const LEFT_OUT = new Set(['.git', 'node_modules', 'dist', 'data', 'coverage', '.env']);
/** Vitest's own memory: runs of copies are no runs of the project. */
const NOT_LINKED = new Set(['.vite', '.vite-temp', '.cache']);

/** Migrated databases, by what they were made from. */
const TEMPLATES = 'enclave_template_';
/** What they are made from. */
const DATABASE = /^(migrations|casbin|src\/foundation\/database\/migrate)/;

/** A copy of the project in a temporary folder, in which one fault at a time is built in. */
export class WorkingCopy {
  /** Those that were changed, as they were; null: there was none. */
  private readonly before = new Map<string, string | null>();

  private constructor(readonly root: string) {}

  static async make(): Promise<WorkingCopy> {
    // A short path: the address of a Unix socket below it has no more than 107 bytes.
    const root = await mkdtemp(join(tmpdir(), 'enclave-mut-'));
    for (const name of await readdir(PROJECT)) {
      if (!LEFT_OUT.has(name)) await cp(join(PROJECT, name), join(root, name), { recursive: true });
    }
    await mkdir(join(root, 'node_modules'));
    for (const name of await readdir(join(PROJECT, 'node_modules'))) {
      if (NOT_LINKED.has(name)) continue;
      await symlink(join(PROJECT, 'node_modules', name), join(root, 'node_modules', name));
    }
    await mkdir(join(root, 't'));
    return new WorkingCopy(root);
  }

  /** What its tests leave lying goes with it. */
  get temporary(): string {
    return join(this.root, 't');
  }

  /** @throws EditError; nothing is changed then */
  async seed({ edits, files }: Seed): Promise<void> {
    const changed = new Map<string, string>(Object.entries(files));
    for (const edit of edits) changed.set(edit.file, await this.withEdit(edit, changed.get(edit.file)));
    for (const [file, content] of changed) {
      const before = file in files ? null : await readFile(join(this.root, file), 'utf8');
      this.before.set(file, before);
      await writeFile(join(this.root, file), content);
    }
  }

  /** As it was. */
  async restore(): Promise<void> {
    const changesDatabase = [...this.before.keys()].some(file => DATABASE.test(file));
    for (const [file, content] of this.before) {
      if (content === null) await rm(join(this.root, file), { force: true });
      else await writeFile(join(this.root, file), content);
    }
    this.before.clear();
    for (const name of await readdir(this.temporary)) {
      // To migrate a database takes longer than many a test: without a fault in it, it is of use for the next one.
      const isKept = name.startsWith(TEMPLATES) && !changesDatabase;
      if (!isKept) await rm(join(this.temporary, name), { recursive: true, force: true });
    }
  }

  async remove(): Promise<void> {
    await rm(this.root, { recursive: true, force: true, maxRetries: 3 });
  }

  private async withEdit(edit: Edit, content: string | undefined): Promise<string> {
    return edited(content ?? (await readFile(join(this.root, edit.file), 'utf8')), edit);
  }
}
