import { describe, expect, it } from 'vitest';
import { namesIn } from './question-names.js';

describe('namesIn', () => {
  it('has every run of words as a key, however it is written', () => {
    const { keys } = namesIn('Where did marie  curie, of Sorbonne’s faculty, work?');
    expect(keys).toEqual(expect.arrayContaining(['marie curie', 'sorbonne', 'faculty']));
    expect(keys).not.toContain('');
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('keeps the signs that are a part of names', () => {
    const { keys } = namesIn('Does AT&T use C++ in its e-mail 2.0?');
    expect(keys).toEqual(expect.arrayContaining(['at&t', 'c++', 'e-mail 2.0']));
  });

  it('takes words for parts of names that are no stop words', () => {
    expect(namesIn('Who is the wife of Curie?').words).toEqual(['wife', 'curie']);
  });

  it('looks at every part of a run whose script does not part words', () => {
    const { keys } = namesIn('东京大学在哪里?');
    expect(keys).toEqual(expect.arrayContaining(['东京', '东京大学', '大学']));
  });

  it.each([
    ['words', 'word '.repeat(50_000)],
    ['characters without spaces', '东'.repeat(50_000)],
    ['signs', "'.&+#/_-".repeat(10_000)],
    ['one word', 'a'.repeat(50_000)],
    ['nothing', ''],
  ])('is bounded for long %s', (_, question) => {
    const started = performance.now();
    const { keys, words } = namesIn(question);
    expect(keys.length).toBeLessThan(2_000);
    expect(words.length).toBeLessThan(200);
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});
