/** Longest name of an entity, in UTF-16 units. */
export const LONGEST_NAME = 120;

const CONTROLS = /\p{Cc}+/gu;
const SPACES = /\s+/gu;
const DASHES = /[\u2010-\u2015\u2212]/gu;
const APOSTROPHES = /[\u2018\u2019\u02bc\u00b4`]/gu;
/** What stands around a name and is none of it. */
const OUTSIDE = /^[^\p{L}\p{N}]+|[^\p{L}\p{M}\p{N}+#]+$/gu;
/** Of acronyms: `u.s.a`, as it is left when its end has been cut. */
const DOTTED = /^\p{L}(?:\.\p{L})+$/u;

/**
 * A name as it may be stored and shown: one line, bounded, and valid Unicode, which `jsonb` insists on. Empty where nothing is
 * left of it.
 */
export function tidyName(name: string): string {
  return name
    .slice(0, 4 * LONGEST_NAME)
    .toWellFormed()
    .replace(CONTROLS, ' ')
    .replace(SPACES, ' ')
    .trim()
    .slice(0, LONGEST_NAME)
    .toWellFormed()
    .trim();
}

/**
 * The form in which names of one thing are equal: lower case, one space between words, without an article, a possessive, the
 * dots of an acronym, and quotes or other marks around it. Empty where nothing is left of it.
 */
export function entityKey(name: string): string {
  const key = tidyName(name)
    .normalize('NFKC')
    .toLowerCase()
    .replace(DASHES, '-')
    .replace(APOSTROPHES, "'")
    .replace(OUTSIDE, '')
    .replace(/'s$|(?<=s)'$/u, '')
    .replace(/^the (?=.)/u, '')
    .replace(OUTSIDE, '');
  return (DOTTED.test(key) ? key.replaceAll('.', '') : key).slice(0, LONGEST_NAME).toWellFormed().trim();
}
