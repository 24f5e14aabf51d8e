import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sentences } from './sentences.js';

const quotes = (text: string) => sentences(text).map(({ start, end }) => text.slice(start, end));

describe('sentences', () => {
  it.each([
    ['Rollo swore fealty. He became duke!', ['Rollo swore fealty.', 'He became duke!']],
    [
      'Dr. Smith met J. R. Jones in the U.S. Senate. They spoke.',
      ['Dr. Smith met J. R. Jones in the U.S. Senate.', 'They spoke.'],
    ],
    [
      'Use tools, e.g. Docker, at version 2.5. Then stop.',
      ['Use tools, e.g. Docker, at version 2.5.', 'Then stop.'],
    ],
    ['A paragraph\nover two lines.\n\nAnother one', ['A paragraph\nover two lines.', 'Another one']],
    ['# Title\n\nText.\n## Part\nMore.', ['Text.', 'More.']],
    [
      'Steps:\n- open it\n- close it. Done.\n  still done\n2) third',
      ['Steps:', 'open it', 'close it.', 'Done.\n  still done', 'third'],
    ],
    ['| Plan | Price |\n| --- | ---: |\n| Pro | 20 $ |', ['Plan | Price', 'Pro | 20 $']],
    ['```sh\nnpm start\n```', ['npm start']],
    ['Windows\r\nlines.\r\n\r\nNext.', ['Windows\r\nlines.', 'Next.']],
    ['吾輩は猫である。名前はまだ無い。', ['吾輩は猫である。', '名前はまだ無い。']],
    ['', []],
    [' \n ', []],
  ])('splits %j', (text, expected) => {
    expect(quotes(text)).toEqual(expected);
  });

  it('cuts what has no end', () => {
    const pieces = quotes('word '.repeat(400));
    expect(pieces.length).toBeGreaterThan(3);
    expect(Math.max(...pieces.map(piece => piece.length))).toBeLessThanOrEqual(500);
    expect(quotes('x'.repeat(1200)).map(piece => piece.length)).toEqual([500, 500, 200]);
  });

  it('gives stretches in order that do not overlap, and are not blank', () => {
    const text = fc.array(
      fc.constantFrom('a', 'Bc', '. ', '\n', '- ', '| ', '#', ' ', '1. ', '!', 'Dr.', '\r\n'),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(text, parts => {
        const joined = parts.join('');
        let last = 0;
        for (const { start, end } of sentences(joined)) {
          expect(start).toBeGreaterThanOrEqual(last);
          expect(joined.slice(start, end).trim()).toBe(joined.slice(start, end));
          expect(end).toBeGreaterThan(start);
          last = end;
        }
      }),
    );
  });
});
