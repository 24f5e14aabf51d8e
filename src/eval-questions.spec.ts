import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { UsageError } from './cli-command.js';
import { readQuestions } from './eval-questions.js';
import { Problem } from './foundation/http/problem.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'enclave-test-'));
  return () => rmSync(folder, { recursive: true });
});

function read(name: string, content: string) {
  const path = join(folder, name);
  writeFileSync(path, content);
  return readQuestions(path);
}

function faultOf(name: string, content: string): Problem {
  try {
    read(name, content);
  } catch (error) {
    expect(error).toBeInstanceOf(Problem);
    return error as Problem;
  }
  throw new Error('It was read.');
}

const pathsOf = ({ options }: Problem) => options.errors?.map(({ path }) => path);

describe('JSON lines', () => {
  it('are questions', () => {
    const lines = [
      '\uFEFF{"question": "How long?", "answers": ["ten years"], "relevant": [{"title": "Warranty"}]}',
      '',
      '{"question": "Who?", "answerable": false}\r',
    ];
    expect(read('a.jsonl', lines.join('\n'))).toEqual([
      { question: 'How long?', answers: ['ten years'], relevant: [{ title: 'Warranty' }], answerable: null },
      { question: 'Who?', answers: [], relevant: [], answerable: false },
    ]);
  });

  it('that are none are named, all of them', () => {
    const noJson = faultOf('a.jsonl', '{"question": "a"}\n{"question": \nnull x\n');
    expect(pathsOf(noJson)).toEqual(['line 2', 'line 3']);
    const lines = ['{"question": " "}', '{"question": "a", "answer": "b"}', '3', '{"question": "a\\u0000"}'];
    const noQuestions = faultOf('a.jsonl', lines.join('\n'));
    expect(pathsOf(noQuestions)).toEqual(['line 1, question', 'line 2', 'line 3', 'line 4']);
    const twoNames = '{"question": "a", "relevant": [{"title": "x", "text": "y"}]}';
    expect(pathsOf(faultOf('a.jsonl', twoNames))).toEqual(['line 1, relevant.0']);
  });
});

describe('CSV', () => {
  it('is read by its header', () => {
    const rows = [
      'question,answers,answerable,title,text',
      '"How long, in years?",ten | a decade,TRUE,Warranty|Terms,',
      'Who?,,false,,',
      '"Two',
      'lines?",,,,"a ""quoted"" text"',
    ];
    expect(read('a.csv', rows.join('\r\n'))).toEqual([
      {
        question: 'How long, in years?',
        answers: ['ten', 'a decade'],
        answerable: true,
        relevant: [{ title: 'Warranty' }, { title: 'Terms' }],
      },
      { question: 'Who?', answers: [], answerable: false, relevant: [] },
      {
        question: 'Two\r\nlines?',
        answers: [],
        answerable: null,
        relevant: [{ text: 'a "quoted" text' }],
      },
    ]);
  });

  it('that is none is refused with the line', () => {
    expect(faultOf('a.csv', 'question,answers\na,b,c\n').detail).toContain('line 2');
    expect(faultOf('a.csv', 'question,gold\na,b\n').detail).toContain('column "gold"');
    expect(pathsOf(faultOf('a.csv', 'question,answerable\na,true\nb,perhaps\n'))).toEqual([
      'line 3, answerable',
    ]);
    expect(pathsOf(faultOf('a.csv', 'answers\nten\n'))).toEqual(['line 2, question']);
  });
});

describe('a file', () => {
  it('without questions is refused', () => {
    expect(faultOf('a.jsonl', '\n\n').detail).toContain('no questions');
    expect(faultOf('a.csv', 'question\n').detail).toContain('no questions');
  });

  it('with too many is refused', () => {
    const line = '{"question": "a"}\n';
    expect(faultOf('a.jsonl', line.repeat(5_001)).detail).toContain('at most 5000');
  });

  it('that is not there is named', () => {
    expect(() => readQuestions(join(folder, 'none.jsonl'))).toThrow(UsageError);
  });
});
