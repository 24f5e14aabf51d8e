import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { documentText, splitDocument, type Chunk, type SplitOptions } from './chunk-splitter.js';

const markdown = (text: string, options?: SplitOptions) =>
  splitDocument({ format: 'markdown', pages: [{ page: null, text }] }, options);
const plain = (text: string, options?: SplitOptions) =>
  splitDocument({ format: 'plain', pages: [{ page: null, text }] }, options);
const sentences = (count: number) =>
  Array.from(
    { length: count },
    (_, index) => `Sentence number ${index} says something about the matter.`,
  ).join(' ');

/** What of the text no chunk covers. */
function uncovered(text: string, chunks: Chunk[]): string {
  let rest = '';
  let position = 0;
  for (const { startOffset, endOffset } of chunks) {
    if (startOffset > position) rest += text.slice(position, startOffset);
    position = Math.max(position, endOffset);
  }
  return rest + text.slice(position);
}

describe('splitDocument', () => {
  it('keeps a short text whole and says where it stands', async () => {
    expect(await plain('  One short text.\n')).toEqual([
      {
        ordinal: 0,
        text: 'One short text.',
        heading: null,
        page: null,
        startOffset: 2,
        endOffset: 17,
        tokenCount: 4,
      },
    ]);
  });

  it('cuts between sentences and repeats the end of the chunk before, from a word on', async () => {
    const chunks = await plain(sentences(100), { chunkSize: 500, chunkOverlap: 60 });
    expect(chunks.length).toBeGreaterThan(10);
    for (const [index, chunk] of chunks.entries()) {
      expect(chunk.text).toMatch(/\.$/);
      if (index === 0) continue;
      const overlap = chunks[index - 1]!.endOffset - chunk.startOffset;
      expect(overlap).toBeGreaterThan(20);
      expect(overlap).toBeLessThanOrEqual(60);
      expect(sentences(100)[chunk.startOffset - 1]).toBe(' ');
    }
  });

  it('follows the path of headings and keeps sections apart', async () => {
    const text = [
      'Preface.\n\n# Manual\n\n## Setup\n\nInstall it.\n\n### On [Linux](https://kernel.org) **now** ##\n\nUse apt.',
      '## Usage\n\nRun it.\n\nAppendix\n========\n\nThe end.\n\nNotes\n-----\n\nNone.',
    ].join('\n\n');
    const chunks = await markdown(text);
    expect(chunks.map(({ heading, text: content }) => [heading, content])).toEqual([
      [null, 'Preface.'],
      ['Manual > Setup', '# Manual\n\n## Setup\n\nInstall it.'],
      ['Manual > Setup > On Linux now', '### On [Linux](https://kernel.org) **now** ##\n\nUse apt.'],
      ['Manual > Usage', '## Usage\n\nRun it.'],
      ['Appendix', 'Appendix\n========\n\nThe end.'],
      ['Appendix > Notes', 'Notes\n-----\n\nNone.'],
    ]);
  });

  it('sees no headings in plain text and in code', async () => {
    expect((await plain('# a comment\nvalue = 1')).map(chunk => chunk.heading)).toEqual([null]);
    const [chunk, ...others] = await markdown('# Script\n\n```sh\n# a comment\nls\n```\n\nThat was it.');
    expect(others).toEqual([]);
    expect(chunk?.heading).toBe('Script');
  });

  it('keeps a code block whole where it fits', async () => {
    const code = `\`\`\`js\n${'call();\n\n'.repeat(40)}\`\`\``;
    const chunks = await markdown(`# Code\n\n${sentences(10)}\n\n${code}\n\n${sentences(10)}`, {
      chunkSize: 600,
      chunkOverlap: 50,
    });
    expect(chunks.filter(chunk => chunk.text.includes(code))).toHaveLength(1);
    const long = await markdown(code, { chunkSize: 100, chunkOverlap: 10 });
    expect(long.length).toBeGreaterThan(3);
  });

  it('keeps pages apart and counts offsets through all of them', async () => {
    const pages = [
      { page: 1, text: sentences(30) },
      { page: 3, text: 'The third page.' },
    ];
    const chunks = await splitDocument({ format: 'plain', pages });
    expect(new Set(chunks.map(chunk => chunk.page))).toEqual(new Set([1, 3]));
    expect(chunks.at(-1)).toMatchObject({ page: 3, text: 'The third page.' });
    for (const chunk of chunks) {
      expect(documentText({ pages }).slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
    }
  });

  it('covers every character of any text, within the bounds, without cutting one in two', async () => {
    const fragment = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 40 }),
      fc.constantFrom(
        '\n',
        '\n\n',
        '# ',
        '## B\n',
        '```\n',
        '~~~\n',
        '---\n',
        '。',
        '. ',
        '😀'.repeat(15),
        ' '.repeat(30),
      ),
      fc.constantFrom('x\n'.repeat(40), 'a'.repeat(120), 'same words '.repeat(20)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fragment, { maxLength: 15 }), { minLength: 1, maxLength: 3 }),
        fc.constantFrom<'markdown' | 'plain'>('markdown', 'plain'),
        fc.integer({ min: 8, max: 100 }),
        fc.double({ min: 0, max: 0.49, noNaN: true }),
        async (parts, format, chunkSize, overlapShare) => {
          const chunkOverlap = Math.floor(chunkSize * overlapShare);
          const pages = parts.map((part, index) => ({ page: index + 1, text: part.join('') }));
          const text = documentText({ pages });
          const chunks = await splitDocument({ format, pages }, { chunkSize, chunkOverlap });
          expect(chunks.map(chunk => chunk.ordinal)).toEqual(chunks.map((_, index) => index));
          expect(uncovered(text, chunks).trim()).toBe('');
          for (const chunk of chunks) {
            expect(text.slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
            expect(chunk.text.trim()).not.toBe('');
            expect(chunk.text.length).toBeLessThanOrEqual(chunkSize);
            expect(chunk.text).not.toMatch(/\p{Surrogate}/u);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it.each([
    ['one letter', 'a'.repeat(200_000)],
    ['Chinese without blanks', '知识库检索增强生成'.repeat(20_000)],
    ['emoji', '😀'.repeat(100_000)],
    ['50,000 lines', 'one line of the log\n'.repeat(50_000)],
    ['50,000 equal headings', '# H\n\nx\n\n'.repeat(50_000)],
    ['opened brackets', '# ' + '['.repeat(200_000)],
    ['blanks', `a${' '.repeat(200_000)}b`],
    ['line ends', `a${'\n'.repeat(200_000)}b`],
    ['fence marks', '`'.repeat(200_000)],
  ])('splits %s in linear time', async (_, text) => {
    const started = performance.now();
    const chunks = await markdown(text);
    expect(performance.now() - started).toBeLessThan(3000);
    expect(uncovered(text, chunks).trim()).toBe('');
    expect(Math.max(...chunks.map(chunk => chunk.text.length))).toBeLessThanOrEqual(1200);
  });

  it('refuses options that contradict each other', async () => {
    await expect(plain('text', { chunkSize: 100, chunkOverlap: 50 })).rejects.toThrow(RangeError);
    await expect(plain('text', { chunkSize: 100.5 })).rejects.toThrow(RangeError);
  });
});
