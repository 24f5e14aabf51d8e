import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EditError, edited, seedOf } from './fault.js';
import { FAULTS } from './faults.js';
import { sentenceOf, verdictOf } from './verdict.js';
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

  it('names specs that there are, and parts of what their tests are called', () => {
    for (const { name, specs } of FAULTS) {
      expect(specs.length, name).toBeGreaterThan(0);
      for (const spec of specs) {
        const [file = '', part = ''] = spec.split('#', 2);
        expect(existsSync(join(PROJECT, file)), spec).toBe(true);
        // Else the whole file would run, for longer, and perhaps fail somewhere else.
        expect(contentOf(file).includes(part), `${name}: ${spec}`).toBe(true);
      }
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
  const failure = (error: string, message: string, received: string[] = []) => ({
    spec: 'a.spec.ts',
    name: 'a test',
    failures: [{ error, message, received, at: 'a.spec.ts:3' }],
  });
  const expected = (message: string, received?: string[]) => failure('AssertionError', message, received);
  const test = expected('expected 200 to be 404');
  const passed = [{ spec: 'a.spec.ts', name: 'another' }];
  const run = { passed, failed: [], broken: [], found: null, seconds: 1 };

  it('is caught by an assertion that does not hold, and survives where none fails', () => {
    expect(verdictOf({ ...run, failed: [test] })).toMatchObject({ kind: 'caught', tests: [test] });
    expect(verdictOf(run)).toEqual({ kind: 'survived' });
    expect(sentenceOf(test)).toBe('a.spec.ts:3: expected 200 to be 404');
  });

  it.each([
    ['a status', expected('expected 200 to be 404')],
    ['one beside other things', expected('expected [ …(2) ] to deeply equal [ …(2) ]', ['+   200,'])],
    [
      'what a list holds',
      expected('expected [ …(2) ] to deeply equal []', ['+   "x: 500",', '+   "x: told",']),
    ],
    ['an answer that is not as expected', failure('Error', 'Expected 404, got 200: {}')],
    ['a snapshot', failure('Error', 'Snapshot `x 1` mismatched', ['+ GET /x'])],
  ])('is caught by %s', (_, caught) => {
    expect(verdictOf({ ...run, failed: [caught] })).toMatchObject({ kind: 'caught' });
  });

  it.each([
    ['an error of the runtime', failure('TypeError', 'Cannot read properties of undefined')],
    ['one that is quoted', expected('promise rejected "TypeError: x" instead of resolving')],
    ['a server error', expected('expected 500 to be 404')],
    ['one beside other things', expected('expected [ …(2) ] to deeply equal [ …(2) ]', ['+   500,'])],
    ['a list of nothing else', expected('expected [ …(1) ] to deeply equal []', ['+   "GET /x: 500 {}",'])],
    ['a server error in a step', failure('Error', 'Expected 201, got 500: {}')],
    ['time that has run out', failure('Error', 'Test timed out in 60000ms.')],
  ])('that fells what it is built into is not caught: %s', (_, crashed) => {
    expect(verdictOf({ ...run, failed: [crashed] })).toMatchObject({ kind: 'crashed', tests: [crashed] });
    // Another test that has expected something else decides.
    expect(verdictOf({ ...run, failed: [crashed, test] })).toMatchObject({ kind: 'caught', tests: [test] });
  });

  it('that only a preparation stumbles over is not caught', () => {
    const broken = [failure('Error', 'Expected 201, got 404: {}')];
    expect(verdictOf({ ...run, broken })).toMatchObject({ kind: 'crashed', tests: broken });
  });

  it('that a start refuses is told apart from one that a test notices', () => {
    const start = 'The table x shows rows to nobody.';
    const refusal = failure('IsolationError', start);
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
    const broken = [failure('Error', 'Failed to load url x')];
    expect(verdictOf({ ...run, broken })).toEqual({
      kind: 'void',
      why: 'a.spec.ts: a.spec.ts:3: Error: Failed to load url x',
    });
    expect(verdictOf({ ...run, passed: [] })).toMatchObject({ kind: 'void' });
  });
});
