import { describe, expect, it } from 'vitest';
import { LONGEST_NAME } from './entity-key.js';
import { LONGEST_DESCRIPTION, LONGEST_TYPE, MOST_ENTITIES, MOST_RELATIONS } from './extraction.js';
import { readModelAnswer } from './model-answer.js';

const curie = { name: 'Marie Curie', type: 'Person', description: 'A physicist.' };
const radium = { name: 'Radium', type: 'chemical_element', description: 'An element.' };
const discovered = {
  source: 'Marie Curie',
  target: 'the Radium',
  type: 'discovered',
  description: 'She did.',
  strength: 9,
};
const answer = (entities: unknown, relations: unknown = []) => JSON.stringify({ entities, relations });

describe('an answer of a model', () => {
  it('is read as entities and relations', () => {
    expect(readModelAnswer(answer([curie, radium], [discovered]))).toEqual({
      entities: [
        { key: 'marie curie', name: 'Marie Curie', type: 'person', description: 'A physicist.' },
        { key: 'radium', name: 'Radium', type: 'chemical element', description: 'An element.' },
      ],
      relations: [
        { source: 'marie curie', target: 'radium', type: 'discovered', description: 'She did.', weight: 0.9 },
      ],
    });
  });

  it.each([
    ['a block of code', `\`\`\`json\n${answer([curie])}\n\`\`\``],
    ['a sentence around it', `Here it is: ${answer([curie])} Anything else?`],
    ['fields that are missing', '{"entities": [{"name": "Marie Curie"}]}'],
    [
      'fields of another type',
      '{"entities": [{"name": "Marie Curie", "type": 7, "description": null}], "relations": "none"}',
    ],
    ['entries that are none', '{"entities": [null, 3, {"title": "x"}, {"name": "Marie Curie"}]}'],
  ])('may have %s', (_, reply) => {
    expect(readModelAnswer(reply)?.entities).toMatchObject([{ key: 'marie curie' }]);
  });

  it.each([
    ['nothing', ''],
    ['prose', 'There are no entities in this text.'],
    ['half of it', answer([curie, radium]).slice(0, -20)],
    ['a list', '[{"name": "Marie Curie"}]'],
    ['another object', '{"answer": "Marie Curie"}'],
    ['nothing that is an entity', '{"entities": ["Marie Curie"]}'],
    ['nesting', '{"entities":'.repeat(10_000)],
  ])('is none where it is %s', (_, reply) => {
    expect(readModelAnswer(reply)).toBeNull();
  });

  it('may name nothing', () => {
    expect(readModelAnswer('{"entities": []}')).toEqual({ entities: [], relations: [] });
  });

  it('names the ends of its relations also where it has not listed them, each thing once, and nothing with itself', () => {
    const itself = { source: 'Marie Curie', target: 'MARIE CURIE', type: 'is' };
    const extraction = readModelAnswer(answer([curie, curie], [discovered, discovered, itself]));
    expect(extraction?.entities.map(({ key, type }) => `${key}: ${type}`)).toEqual([
      'marie curie: person',
      'radium: thing',
    ]);
    expect(extraction?.relations).toHaveLength(1);
  });

  it.each([
    ['more than all', 70, 0.5],
    ['nothing', 0, 0.1],
    ['a text', '8', 0.8],
    ['no number', 'strong', 0.5],
  ])('of a strength of %s has a weight within bounds', (_, strength, weight) => {
    const extraction = readModelAnswer(answer([curie], [{ ...discovered, strength }]));
    expect(extraction?.relations[0]?.weight).toBe(weight);
  });

  it('is bounded, and text that a database can hold', () => {
    const many = Array.from({ length: 500 }, (_, index) => ({
      name: `${index} ${'n'.repeat(1_000)}`,
      type: 't'.repeat(1_000),
      description: `\u0000\ud800${'d'.repeat(5_000)}`,
    }));
    const relations = many.flatMap(({ name }, index) => [
      { source: many[0]?.name, target: name, type: `a${index}`, description: 'r'.repeat(5_000) },
      { source: name, target: many[0]?.name, type: `b${index}` },
    ]);
    const extraction = readModelAnswer(answer(many, relations));
    expect(extraction?.entities).toHaveLength(MOST_ENTITIES);
    expect(extraction?.relations).toHaveLength(MOST_RELATIONS);
    for (const { key, name, type, description } of extraction?.entities ?? []) {
      expect(Math.max(key.length, name.length)).toBeLessThanOrEqual(LONGEST_NAME);
      expect(type.length).toBeLessThanOrEqual(LONGEST_TYPE);
      expect(description?.length).toBeLessThanOrEqual(LONGEST_DESCRIPTION);
      expect(description?.isWellFormed()).toBe(true);
      expect(description).not.toContain('\0');
    }
  });
});
