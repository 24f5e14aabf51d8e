import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { globMatcher, listFolder, sha256Of } from './ingest-files.js';

const folder = mkdtempSync(join(tmpdir(), 'enclave-test-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('a folder', () => {
  mkdirSync(join(folder, 'root/b/.git'), { recursive: true });
  for (const path of ['root/b/two.md', 'root/a.txt', 'root/.hidden', 'root/b/.git/config', 'outside.txt']) {
    writeFileSync(join(folder, path), path);
  }
  symlinkSync('../outside.txt', join(folder, 'root/out'));
  symlinkSync('..', join(folder, 'root/b/up'));

  it('is listed whole, but for what is hidden or elsewhere', async () => {
    const { files, links } = await listFolder(join(folder, 'root'), () => true);
    expect(files).toEqual([
      { path: join(folder, 'root/a.txt'), sourceId: 'a.txt' },
      { path: join(folder, 'root/b/two.md'), sourceId: 'b/two.md' },
    ]);
    expect(links).toBe(2);
  });

  it('is listed in part', async () => {
    const { files } = await listFolder(join(folder, 'root'), globMatcher('*.md'));
    expect(files.map(({ sourceId }) => sourceId)).toEqual(['b/two.md']);
  });

  it('knows the content of its files', async () => {
    expect(await sha256Of(join(folder, 'outside.txt'))).toBe(
      '7921a159f2c891e57f35fee4d9a8f82ba04c242588f8e4ad9e62b5afeefb42d4',
    );
  });
});

it.each([
  ['*.md', ['a.md', 'b/c.md'], ['a.mdx', 'a.md/b']],
  ['b/*.md', ['b/c.md'], ['a.md', 'b/c/d.md', 'x/b/c.md']],
  ['**/*.md', ['a.md', 'b/c.md', 'b/c/d.md'], ['a.txt']],
  ['docs/**', ['docs/a', 'docs/b/c.md'], ['docs', 'a/docs/b']],
  ['*.{md,txt}', ['a.md', 'b/a.txt'], ['a.pdf', 'a.{md,txt}']],
  ['?.md', ['a.md', 'ü.md'], ['ab.md', '.md']],
  ['a-+(b)[c].md', ['a-+(b)[c].md'], ['aab.md', 'abc.md']],
  ['{unclosed', ['{unclosed'], ['unclosed']],
])('the pattern %s', (pattern, matching, others) => {
  const matches = globMatcher(pattern);
  for (const path of matching) expect(matches(path), path).toBe(true);
  for (const path of others) expect(matches(path), path).toBe(false);
});
