import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EditError, edited, seedOf } from './fault.js';
import { FAULTS } from './faults.js';
import { verdictOf } from './verdict.js';
import { PROJECT } from './working-copy.js';

const before = new Map<string, string>();
const contentOf = (file: string): string => {
  let content = before.get(file);
  if (content === undefined) before.set(file, (content = readFileSync(join(PROJECT, file), 'utf8')));
  return content;
};

describe('the list of faults', () => {
  it('is a long one, each with a name of its own', () => {
    expect(FAULTS.length).toBeGreaterThanOrEqual(30);
    expect(new Set(FAULTS.map(({ name }) => name)).size).toBe(FAULTS.length);
  });

  it.each(FAULTS.map(fault => [fault.name, fault] as const))('%s can be built in', (name, fault) => {
    expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/);
    expect(fault.edits?.length ?? fault.sql?.length).toBeGreaterThan(0);
    const after = new Map<string, string>();
    for (const edit of seedOf(fault).edits) {
      const changed = edited(after.get(edit.file) ?? contentOf(edit.file), edit);
      expect(changed).not.toBe(contentOf(edit.file));
      after.set(edit.file, changed);
    }
  });

  it('names specs that there are', () => {
    for (const { name, specs } of FAULTS) {
      expect(specs.length, name).toBeGreaterThan(0);
      for (const spec of specs) expect(existsSync(join(PROJECT, spec.split('#', 1).join())), spec).toBe(true);
    }
  });
});

it('an edit whose text is not there once is refused', () => {
  const edit = { file: 'a.ts', find: 'b', replace: '$&' };
  expect(edited('abc', edit)).toBe('a$&c');
  expect(() => edited('ac', edit)).toThrow(EditError);
  expect(() => edited('bb', edit)).toThrow('2 times');
});

describe('a fault', () => {
  const run = { passed: 3, failed: [], broken: [], found: null, seconds: 1 };
  const test = { name: 'a.spec.ts: a test', message: 'expected 404 to be 200' };

  it('is caught by a test that fails, and survives where none does', () => {
    expect(verdictOf({ ...run, failed: [test] })).toMatchObject({ kind: 'caught', tests: [test] });
    expect(verdictOf(run)).toEqual({ kind: 'survived' });
  });

  it('that a start refuses is told apart from one that a test notices', () => {
    const refusal = {
      name: 'a.spec.ts',
      message: 'IsolationError: The table x shows rows to nobody.\n    at y',
    };
    const start = 'The table x shows rows to nobody.';
    expect(verdictOf({ ...run, broken: [refusal] })).toEqual({ kind: 'refused', start });
    expect(verdictOf({ ...run, failed: [refusal] })).toEqual({ kind: 'refused', start });
    expect(verdictOf({ ...run, failed: [test], found: start })).toEqual({
      kind: 'caught',
      tests: [test],
      start,
    });
    expect(verdictOf({ ...run, found: start })).toEqual({ kind: 'refused', start });
  });

  it('with which nothing runs proves nothing', () => {
    const broken = [{ name: 'a.spec.ts', message: 'SyntaxError: x\n    at y' }];
    expect(verdictOf({ ...run, broken })).toEqual({ kind: 'void', why: 'a.spec.ts: SyntaxError: x' });
    expect(verdictOf({ ...run, passed: 0 })).toMatchObject({ kind: 'void' });
    const prepared = { name: 'a.spec.ts', message: 'Error: Expected 201, got 404: {}' };
    expect(verdictOf({ ...run, broken: [prepared] })).toMatchObject({ kind: 'caught' });
  });
});
