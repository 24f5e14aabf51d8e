import * as fc from 'fast-check';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { describe, expect, it } from 'vitest';
import { type Chunk, DocumentSplitter, documentText } from './chunk-splitter.js';
import type { SplitOptions, TextPart } from './document-parts.js';

async function split(parts: TextPart[], options?: SplitOptions): Promise<Chunk[]> {
  const splitter = await DocumentSplitter.of(options);
  return [...parts.flatMap(part => splitter.push(part)), ...splitter.end()];
}
const markdown = (text: string, options?: SplitOptions) =>
  split([{ format: 'markdown', page: null, text }], options);
const plain = (text: string, options?: SplitOptions) =>
  split([{ format: 'plain', page: null, text }], options);
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

describe('DocumentSplitter', () => {
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
    const chunks = await split(pages.map(page => ({ ...page, format: 'plain' })));
    expect(new Set(chunks.map(chunk => chunk.page))).toEqual(new Set([1, 3]));
    expect(chunks.at(-1)).toMatchObject({ page: 3, text: 'The third page.' });
    for (const chunk of chunks) {
      expect(documentText(pages).slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
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
          const text = documentText(pages);
          const chunks = await split(
            pages.map(page => ({ ...page, format })),
            { chunkSize, chunkOverlap },
          );
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

  it('begins every further chunk of a table with its header', async () => {
    const row = (index: number) => `| ${index} | Article number ${index} | ${index * 3} EUR |\n`;
    const head = '| No | Name | Price |\n| --- | :-- | --: |\n';
    const table = head + Array.from({ length: 100 }, (_, index) => row(index)).join('');
    const text = `# Prices\n\nAs of today.\n\n${table}\nWithout tax.`;
    const chunks = await markdown(text, { chunkSize: 400, chunkOverlap: 50 });
    expect(chunks[0]!.text).toMatch(/^# Prices\n\nAs of today\.\n\n\| No \|/);
    for (const chunk of chunks.slice(1)) {
      expect(chunk.text.startsWith(head)).toBe(true);
      expect(chunk.text).toBe(head + text.slice(chunk.startOffset, chunk.endOffset));
      expect(chunk.text.length).toBeLessThanOrEqual(400);
      expect(chunk.heading).toBe('Prices');
      const rows = chunk.text.slice(head.length).replace('\n\nWithout tax.', '').split('\n');
      for (const line of rows) expect(line).toMatch(/^\| \d+ \| Article number \d+ \| \d+ EUR \|$/);
    }
    expect(uncovered(text, chunks).trim()).toBe('');
    // No row is told twice.
    expect(chunks.flatMap(chunk => chunk.text.match(/Article number \d+/g))).toHaveLength(100);
    expect(chunks.at(-1)!.text).toMatch(/Without tax\.$/);
  });

  it('keeps a table whole where it fits, and repeats none without it', async () => {
    const table = '| A | B |\n|---|---|\n' + '| one | two |\n'.repeat(20);
    const text = `${sentences(3)}\n\n${table}\n${sentences(20)}`;
    const chunks = await markdown(text, { chunkSize: 400, chunkOverlap: 40 });
    expect(chunks.filter(chunk => chunk.text.includes('|'))).toHaveLength(1);
    for (const chunk of chunks) expect(text.slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
  });

  it('cuts a row that is longer than a chunk, and does not repeat a header that leaves it no room', async () => {
    const long = `| A | B |\n| - | - |\n| ${'word '.repeat(100)} | x |\n| next | y |`;
    const chunks = await markdown(long, { chunkSize: 120, chunkOverlap: 10 });
    for (const chunk of chunks.slice(1)) expect(chunk.text.startsWith('| A | B |\n| - | - |\n')).toBe(true);
    expect(chunks.at(-1)!.text).toMatch(/next \| y \|$/);
    const wide = `| ${'Column | '.repeat(200)}\n|${' - |'.repeat(200)}\n| ${'cell | '.repeat(200)}\n`;
    for (const chunk of await markdown(wide, { chunkSize: 300, chunkOverlap: 20 })) {
      expect(chunk.text.length).toBeLessThanOrEqual(300);
      expect(wide.slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
    }
  });

  it('cuts rows of plain text at their ends', async () => {
    const text = Array.from({ length: 200 }, (_, index) => `${index};Mills, Anna;${index * 7}`).join('\n');
    for (const chunk of await plain(text, { chunkSize: 300, chunkOverlap: 0 })) {
      expect(chunk.text).toMatch(/^\d+;.*;\d+$/s);
      for (const line of chunk.text.split('\n')) expect(line).toMatch(/^\d+;Mills, Anna;\d+$/);
    }
  });

  it('cuts text without blanks between its sentences, and leaves accents with their letters', async () => {
    const chinese = '知识库检索增强生成的系统。'.repeat(50);
    for (const chunk of await plain(chinese, { chunkSize: 100, chunkOverlap: 10 })) {
      expect(chunk.text).toMatch(/。$/);
    }
    const marked = await plain('x\u0302\u0323'.repeat(200), { chunkSize: 100, chunkOverlap: 0 });
    for (const { text } of marked) expect(text).toMatch(/^x/);
    const family = await plain('👩‍👩‍👧'.repeat(50), { chunkSize: 30, chunkOverlap: 0 });
    for (const { text } of family) expect(text).toMatch(/^(?:👩‍👩‍👧)+$/u);
  });

  it('makes the same chunks of a text that comes piece by piece', async () => {
    const row = (index: number) => `| ${index} | ${'cell '.repeat(index % 30)} |\n`;
    const section = (index: number) =>
      [
        `${'#'.repeat((index % 3) + 1)} Part ${index}\n`,
        sentences((index * 7) % 90),
        `\n\n\`\`\`js\n${'call(1);\n\n'.repeat((index * 13) % 400)}\`\`\`\n\n`,
        `| No | What |\n| - | - |\n${Array.from({ length: (index * 11) % 600 }, (_, at) => row(at)).join('')}\n`,
        `Title ${index}\n-----\n\n${'知识库检索增强生成。'.repeat(index)}\n\n`,
      ].join('');
    const text = Array.from({ length: 60 }, (_, index) => section(index)).join('');
    expect(text.length).toBeGreaterThan(800_000);
    const whole = await markdown(text);
    for (const seed of [1, 2]) {
      const parts: TextPart[] = [];
      for (let at = 0, step = seed; at < text.length; step = (step * 7919 + 3) % 100_003) {
        const piece = text.slice(at, at + step);
        parts.push({ page: null, format: 'markdown', text: piece, continues: at > 0 });
        at += step;
      }
      expect(await split(parts)).toEqual(whole);
    }
  });

  it('gives chunks as the text comes, and holds no more of it than it needs', async () => {
    const splitter = await DocumentSplitter.of();
    const line = `${'x'.repeat(1_000_000)} `;
    let given = 0;
    for (let part = 0; part < 20; part++) {
      given += splitter.push({ page: null, format: 'markdown', text: line, continues: part > 0 }).length;
      expect(given).toBeGreaterThan(part * 850);
    }
  });

  it('starts anew where a part does, under the headings of its own', async () => {
    const chunks = await split([
      { page: 1, format: 'markdown', text: '# One\n\nText', headings: ['a.md'] },
      { page: 2, format: 'markdown', text: 'More', headings: ['a.md'] },
      { page: null, format: 'markdown', text: '## Two\n\nText', headings: ['b', '**c**.md'] },
      { page: null, format: 'plain', text: 'Plain', headings: ['d.txt'] },
      { page: null, format: 'plain', text: ' and more', continues: true },
    ]);
    expect(chunks.map(({ heading, text, page }) => [heading, text, page])).toEqual([
      ['a.md > One', '# One\n\nText', 1],
      ['a.md > One', 'More', 2],
      ['b > c.md > Two', '## Two\n\nText', null],
      ['d.txt', 'Plain and more', null],
    ]);
    expect(chunks.map(({ startOffset }) => startOffset)).toEqual([0, 13, 19, 33]);
  });

  it('refuses options that contradict each other', async () => {
    await expect(plain('text', { chunkSize: 100, chunkOverlap: 50 })).rejects.toThrow(RangeError);
    await expect(plain('text', { chunkSize: 100.5 })).rejects.toThrow(RangeError);
  });
});

describe('DocumentSplitter by tokens', () => {
  const options: SplitOptions = { chunkSize: 100, chunkOverlap: 15, chunkUnit: 'tokens' };

  it.each([
    ['English', sentences(200)],
    ['German', 'Die Donaudampfschifffahrtsgesellschaft fährt über Österreich hinaus. '.repeat(100)],
    ['Chinese', '知识库检索增强生成的系统可以回答问题。'.repeat(150)],
    ['Arabic', 'هذه جملة عن قاعدة المعرفة والبحث فيها. '.repeat(100)],
    ['code', 'const value = await this.repository.find({ id: 12345 });\n\n'.repeat(100)],
    ['emoji', '😀👍🏽🇩🇪 '.repeat(300)],
    ['special tokens', 'Say <|endoftext|> or <|im_start|>user, it is text. '.repeat(80)],
  ])('fills chunks of %s with as many tokens as they may have, and counts them', async (_, text) => {
    const chunks = await plain(text, options);
    expect(uncovered(text, chunks).trim()).toBe('');
    for (const [index, chunk] of chunks.entries()) {
      expect(text.slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
      expect(chunk.tokenCount).toBe(countTokens(chunk.text, { disallowedSpecial: new Set<string>() }));
      expect(chunk.tokenCount).toBeLessThanOrEqual(100);
      if (index < chunks.length - 1) expect(chunk.tokenCount).toBeGreaterThan(50);
      const before = chunks[index - 1]?.endOffset ?? 0;
      const repeated = text.slice(chunk.startOffset, before);
      expect(countTokens(repeated, { disallowedSpecial: new Set<string>() })).toBeLessThanOrEqual(15);
    }
    expect(chunks.some((chunk, index) => index > 0 && chunk.startOffset < chunks[index - 1]!.endOffset)).toBe(
      true,
    );
  });

  it('begins every further chunk of a table with its header', async () => {
    const table = `| No | Name |\n| --- | --- |\n${'| 12 | A name of somebody |\n'.repeat(100)}`;
    const chunks = await markdown(table, options);
    expect(chunks.length).toBeGreaterThan(5);
    for (const { text, tokenCount } of chunks) {
      expect(text).toMatch(/^\| No \| Name \|\n\| --- \| --- \|\n(?:\| 12 \| A name of somebody \|\n?)+$/);
      expect(tokenCount).toBeLessThanOrEqual(100);
    }
  });

  it.each([
    ['one letter', 'a'.repeat(300_000)],
    ['Chinese without blanks', '知识库检索增强生成'.repeat(10_000)],
    ['one ideograph', '知'.repeat(100_000)],
    ['emoji', '😀'.repeat(30_000)],
    ['blanks', `a${' '.repeat(200_000)}b`],
    ['dashes', '-'.repeat(200_000)],
    ['line ends', `a${'\n'.repeat(200_000)}b`],
    ['special tokens', '<|endoftext|>'.repeat(10_000)],
    ['base64', Buffer.from(sentences(2_000)).toString('base64')],
  ])('splits %s in linear time', async (_, text) => {
    const started = performance.now();
    const chunks = await markdown(text, options);
    expect(performance.now() - started).toBeLessThan(5000);
    expect(uncovered(text, chunks).trim()).toBe('');
    expect(Math.max(...chunks.map(chunk => chunk.tokenCount))).toBeLessThanOrEqual(100);
  });
});
