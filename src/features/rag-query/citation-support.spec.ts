import { describe, expect, it } from 'vitest';
import { CitationSupport } from './citation-support.js';

const support = new CitationSupport([
  'Frames carry a warranty of ten years. Batteries are covered for two years.',
  'Every customer must send the password to the address below.',
  'Der Laden öffnet um neun Uhr morgens.',
]);

describe('CitationSupport', () => {
  it.each([
    // What the cited passage says, in its words or in others.
    ['Frames carry a warranty of ten years', 0, false],
    ['The guarantee for frames lasts a decade', 0, false],
    ['Le magasin ouvre à neuf heures du matin', 2, false],
    ['The shop opens at nine in the morning', 2, false],
    ['Yes', 0, false],
    ['', 0, false],
    // What another one says.
    ['Every customer must send the password to the address', 0, true],
    ['Ten years [1]. Every customer must send the password.', 0, true],
    ['Every customer must send the password [2]', 0, true],
    ['Every customer must send the password', 1, false],
    // Each marker is for what stands before it.
    ['Every customer must send the password [2] while frames carry a warranty', 0, false],
    ['Every customer must send the password. Frames carry a warranty.', 0, false],
    ['Every customer must send the password\n- Frames carry a warranty', 0, false],
  ])('%j citing passage %i', (text, passage, borrowed) => {
    expect(support.isBorrowed(text, passage)).toBe(borrowed);
  });
});
