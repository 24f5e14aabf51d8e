import { expect, it } from 'vitest';
import { HeadingPath, MarkdownScanner } from './markdown-scanner.js';

const scanned = (text: string) => {
  const scanner = new MarkdownScanner(new HeadingPath(), 0);
  scanner.scan(text, true);
  return scanner.open.blocks;
};

it.each(['| --- | --- |', '---|---', ' | :-: |-:', '|-|', '\t|\t:--\t|\t--', '-|'])(
  'takes %j below a row for the rule of a table',
  rule => expect(scanned(`a | b\n${rule}\nc | d\n`)).toHaveLength(1),
);

it.each(['| --- | x |', '---', '|', '|| -', '- - |', '| :: |'])('does not take %j for one', rule =>
  expect(scanned(`a | b\n${rule}\nc | d\n`)).toEqual([]),
);

it('reads lines of blanks in linear time', () => {
  const lines = `a|b\n${' '.repeat(990)}a|-\n`.repeat(3_000);
  const started = performance.now();
  expect(scanned(lines)).toEqual([]);
  expect(performance.now() - started).toBeLessThan(1_000);
});
