import { describe, expect, it } from 'vitest';
import { keywordsPrompt, readKeywords } from './question-keywords.js';

describe('readKeywords', () => {
  it('reads the object, whatever stands around it', () => {
    const json = '{"high_level_keywords": ["acquisitions"], "low_level_keywords": ["Acme", " Borealis "]}';
    const keywords = { themes: ['acquisitions'], names: ['Acme', 'Borealis'] };
    expect(readKeywords(json)).toEqual(keywords);
    expect(readKeywords(`Here you are:\n\`\`\`json\n${json}\n\`\`\``)).toEqual(keywords);
  });

  it('leaves out what is no text, and bounds the rest', () => {
    const names = [1, null, { a: 1 }, '', ...Array.from({ length: 50 }, (_, i) => `${i}`.padEnd(1000, 'x'))];
    const read = readKeywords(JSON.stringify({ low_level_keywords: names }));
    expect(read?.themes).toEqual([]);
    expect(read?.names).toHaveLength(12);
    expect(read?.names[0]).toHaveLength(120);
  });

  it.each(['', 'no', '[]', '{}', '{"low_level_keywords": "Acme"}', '{"low_level_keywords": []}', '}{'])(
    'has nothing of %j',
    reply => expect(readKeywords(reply)).toBeNull(),
  );
});

it('asks with a question that has an end', () => {
  const [rules, question] = keywordsPrompt('x'.repeat(100_000));
  expect(rules?.role).toBe('system');
  expect(question?.content.length).toBeLessThan(5_000);
});
