import { describe, expect, it } from 'vitest';
import { CitationNumbers } from './answer-reader.js';
import { readJsonAnswer } from './json-answer.js';

function read(reply: string) {
  const numbers = new CitationNumbers(2);
  const answer = readJsonAnswer(reply, numbers, { mark: '#0123456789abcdef', sources: [] });
  return (
    answer && { ...answer, cited: numbers.cited.map(({ passage }) => passage), removed: numbers.removed }
  );
}

describe('readJsonAnswer', () => {
  it('checks markers in texts alone', () => {
    expect(read('{"years": [1, 9], "why": ["Ten years [2].", "x [7]"], "n": 9}')).toEqual({
      text: '{"years":[1,9],"why":["Ten years [1].","x"],"n":9}',
      declined: false,
      removedLinks: 0,
      cited: [1],
      removed: 1,
    });
  });

  it('lets no name of a member lead away either', () => {
    expect(
      read('{"https://evil.example/?q=secret": 1, "a": {"see //x and https:/evil.example/s": "b [1]"}}'),
    ).toEqual({
      text: '{"[link removed]":1,"a":{"see //x and [link removed]":"b [1]"}}',
      declined: false,
      removedLinks: 2,
      cited: [0],
      removed: 0,
    });
  });

  it('reads what stands in a block of code', () => {
    expect(read('```json\n{"a": "b [1]"}\n```')).toMatchObject({ text: '{"a":"b [1]"}', declined: false });
  });

  it.each([
    'NOT_FOUND',
    '',
    '{}',
    '{"answer": "NOT_FOUND"}',
    '{"answer": ""}',
    '{"a": ["NOT_FOUND"], "b": null}',
  ])('takes %j for no answer', reply => {
    expect(read(reply)).toMatchObject({ declined: true });
  });

  it.each([
    'Ten years [1].',
    '{"a": ',
    '"text"',
    '7',
    'null',
    '{"a": "\\u0000"}',
    '['.repeat(5000) + ']'.repeat(5000),
  ])('takes %j for no JSON', reply => {
    expect(read(reply)).toBeNull();
  });

  it('takes a number for an answer', () => {
    expect(read('{"years": 10, "note": ""}')).toMatchObject({
      declined: false,
      text: '{"years":10,"note":""}',
    });
  });
});
