/** Characters of an address. */
export const LONGEST_ADDRESS = 2000;

const LONGEST_TITLE = 500;

/** What a page is called until it has been read and says so itself, where nobody has given it a title. */
export const titleOfAddress = (address: string): string => address.slice(0, LONGEST_TITLE);

/** What a page calls itself, on one line. Empty where it says nothing. */
export const titleOfPage = (title: string): string =>
  Array.from(title.replace(/\s+/g, ' ').replaceAll('\0', '').trim()).slice(0, LONGEST_TITLE).join('');

/**
 * An address as two spellings of it agree on: as WHATWG's URL Standard writes it (lower-case host, no default port, no
 * dot segments), without the fragment, which no server sees.
 *
 * @param base where the address stands, which may then be relative
 * @returns null for what is no address of the web
 */
export function canonicalAddress(address: string, base?: string): string | null {
  if (!URL.canParse(address, base)) return null;
  const url = new URL(address, base);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return null;
  url.hash = '';
  return url.href.length <= LONGEST_ADDRESS ? url.href : null;
}
