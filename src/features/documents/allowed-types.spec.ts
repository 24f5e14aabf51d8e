import { describe, expect, it } from 'vitest';
import { isNamedBy } from './allowed-types.js';

describe('a name in the settings', () => {
  it.each([
    ['pdf', 'application/pdf'],
    ['.PDF', 'application/pdf'],
    [' docx ', 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'],
    ['text/markdown', 'text/markdown'],
    ['text/*', 'text/html'],
    ['audio', 'audio/mpeg'],
    ['flac', 'audio/x-flac'],
  ])('%s stands for %s', (name, type) => expect(isNamedBy(name, type)).toBe(true));

  it.each([
    ['pdf', 'text/plain'],
    ['text', 'text/html'],
    ['text/*', 'application/json'],
    ['', 'text/plain'],
    ['constructor', 'text/plain'],
  ])('%s does not stand for %s', (name, type) => expect(isNamedBy(name, type)).toBe(false));
});
