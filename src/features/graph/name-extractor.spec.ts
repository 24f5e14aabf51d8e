import { describe, expect, it } from 'vitest';
import { MOST_ENTITIES, MOST_RELATIONS } from './extraction.js';
import { CO_OCCURS, extractNames } from './name-extractor.js';

const namesIn = (text: string, language?: string) =>
  extractNames(text, language).entities.map(({ name }) => name);
const pairsIn = (text: string) =>
  extractNames(text).relations.map(({ source, target, weight }) => `${source} | ${target} | ${weight}`);

describe('names', () => {
  it.each<[language: string, text: string, names: string[]]>([
    [
      'english',
      'Marie Curie was born in Warsaw. She moved to Paris, where she met Pierre Curie at the University of Paris.',
      ['Marie Curie', 'Warsaw', 'Paris', 'Pierre Curie', 'University of Paris'],
    ],
    [
      'english',
      'The engine was built by the Acme Corporation’s team for NASA.',
      ['Acme Corporation', 'NASA'],
    ],
    ['english', 'However, nobody knew. The weather was fine. Yesterday it rained.', []],
    [
      'english',
      'Tesla is a company. Dr. Smith and J. K. Rowling like it.',
      ['Tesla', 'Smith', 'J. K. Rowling'],
    ],
    [
      'english',
      'They flew on Apollo 11, and paid 500 USD on Monday, 5 March 2021 for 20 GB.',
      ['Apollo 11', 'USD'],
    ],
    [
      'english',
      'She bought an iPhone and works with OpenAI in the U.S. market.',
      ['iPhone', 'OpenAI', 'U.S'],
    ],
    ['english', 'He wrote “The Old Man and the Sea” in Cuba.', ['Cuba', 'The Old Man and the Sea']],
    [
      'german',
      'Angela Merkel wurde in Hamburg geboren. Die Kanzlerin besuchte mit der Delegation die Deutsche Bank.',
      ['Angela Merkel', 'Hamburg', 'Deutsche Bank'],
    ],
    [
      'french',
      'Victor Hugo est né à Besançon. Il a vécu à Guernesey, et l’Italie lui était connue.',
      ['Victor Hugo', 'Besançon', 'Guernesey', 'Italie'],
    ],
    [
      'spanish',
      'Gabriel García Márquez nació en Aracataca. El escritor vivió en la Ciudad de México.',
      ['Gabriel García Márquez', 'Aracataca', 'Ciudad de México'],
    ],
    ['russian', 'Вчера Лев Толстой приехал в Москву.', ['Вчера Лев Толстой', 'Москву']],
    [
      'cjk',
      '田中さんは東京大学でトランスフォーマーを研究した。『源氏物語』を読む。',
      ['源氏物語', 'トランスフォーマー', '田中', '東京大学'],
    ],
    ['cjk', '他在北京大学工作，后来加入阿里巴巴集团。', ['北京大学', '阿里巴巴集团']],
  ])('of %s text: %s', (language, text, names) => {
    expect(namesIn(text, language).toSorted()).toEqual(names.toSorted());
  });

  it('are one name however they are written', () => {
    const { entities } = extractNames('He saw ACME Corp and then Acme Corp, and the Acme Corp’s office.');
    expect(entities.map(({ key }) => key)).toEqual(['acme corp']);
  });

  it('are told from words at the beginning of a sentence by the rest of the text', () => {
    expect(namesIn('Kepler found it. They say that Kepler knew.')).toEqual(['Kepler']);
    expect(namesIn('Planets move. Some planets are large.')).toEqual([]);
  });

  it('are not what is shouted, or a heading', () => {
    expect(namesIn('WARNING: DO NOT OPEN THIS DOOR. It is closed.')).toEqual([]);
    expect(namesIn('it says Getting Started With Your New Shiny Device Today here')).toEqual([]);
  });

  it('are the same for the same text, and need no language', () => {
    const text = 'In Rome, Julius Caesar met Cleopatra. Later Caesar went to Gaul.';
    expect(extractNames(text)).toEqual(extractNames(text));
    expect(namesIn(text)).toEqual(namesIn(text, 'english'));
  });
});

describe('pairs of names', () => {
  it('weigh more in one sentence than in one chunk, and have no direction', () => {
    expect(pairsIn('Then Zoe met Adam. Later they saw Rome.')).toEqual([
      'adam | zoe | 1',
      'rome | zoe | 0.3',
      'adam | rome | 0.3',
    ]);
    expect(extractNames('Then Zoe met Adam.').relations[0]).toEqual({
      source: 'adam',
      target: 'zoe',
      type: CO_OCCURS,
      description: null,
      weight: 1,
    });
  });

  it('are between names that are there, and bounded', () => {
    const text = Array.from({ length: 200 }, (_, index) => `then Name${index} Surname${index} came`).join(
      ', ',
    );
    const { entities, relations } = extractNames(text);
    expect(entities).toHaveLength(MOST_ENTITIES);
    expect(relations).toHaveLength(MOST_RELATIONS);
    const keys = new Set(entities.map(({ key }) => key));
    for (const { source, target } of relations) {
      expect(keys.has(source) && keys.has(target)).toBe(true);
      expect(source < target).toBe(true);
    }
  });
});

describe('hostile text', () => {
  it.each([
    ['capitals', 'A'.repeat(200_000)],
    ['capital words', 'Aa '.repeat(70_000)],
    ['initials', 'A. '.repeat(70_000)],
    ['connectors', 'Aa of of '.repeat(25_000)],
    ['apostrophes', "A'".repeat(100_000)],
    ['dots', 'A.'.repeat(100_000)],
    ['open quotes', '"A '.repeat(70_000)],
    ['brackets', '.)'.repeat(100_000)],
    ['line ends', '\n \n'.repeat(70_000)],
    ['spaces', `A${' '.repeat(200_000)}B`],
    ['Han', '大学'.repeat(100_000)],
    ['Katakana', 'ア・'.repeat(100_000)],
    ['marks', 'A\u0301'.repeat(100_000)],
    ['halves of characters', 'A\ud800 '.repeat(50_000)],
  ])('of %s takes no long time', (_, text) => {
    const started = performance.now();
    const { entities } = extractNames(text);
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(entities.length).toBeLessThanOrEqual(MOST_ENTITIES);
    for (const { key, name } of entities) expect(key.isWellFormed() && name.isWellFormed()).toBe(true);
  });
});
