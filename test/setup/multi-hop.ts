/**
 * Texts of which one alone does not answer the question: what the first says of somebody leads to the second, which shares no
 * word with the question. Many others share its words, and have nothing to do with it.
 */
export const MULTI_HOP = {
  question: 'In which city is the employer of Anna Keller?',
  /** Titles of the texts that the answer takes, in the order of the way there. */
  way: ['engineer', 'headquarters'],
  texts: {
    engineer:
      'For three years Anna Keller has designed turbines at Borealis Systems, together with Jonas Lind.',
    headquarters: 'The premises of Borealis Systems stand on the harbour of Tromsø, next to the cathedral.',
    ...Object.fromEntries(
      Array.from({ length: 40 }, (_, i) => [
        `city${i}`,
        `The largest employer in the city of ${'ABCDEFGHIJ'[i % 10]}ville Number${i} is the company Employer${i} Partners, ` +
          'which the city supports.',
      ]),
    ),
  } as Record<string, string>,
};
