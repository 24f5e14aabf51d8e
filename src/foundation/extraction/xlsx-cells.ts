/** How a number is shown: by the format of its cell. */
export type NumberKind = 'number' | 'percent' | 'date' | 'time' | 'datetime';

const DAY_SECONDS = 86_400;
/** Day 0 of the two calendars of Excel; in the first one, 1900 is taken for a leap year (ECMA-376, 18.17.4.1). */
const EPOCH_1900 = Date.UTC(1899, 11, 31);
const EPOCH_1904 = Date.UTC(1904, 0, 1);
const FALSE_LEAP_DAY = 60;
const LAST_DAY = 2_958_465;

/** What a format code makes of numbers. The ids below 164 are built in (ECMA-376, 18.8.30). */
export function numberKind(id: number, code: string | undefined): NumberKind {
  if (code === undefined) {
    if (id === 9 || id === 10) return 'percent';
    if ((id >= 14 && id <= 17) || (id >= 27 && id <= 31) || id === 36 || (id >= 50 && id <= 58))
      return 'date';
    if ((id >= 18 && id <= 21) || (id >= 32 && id <= 35) || (id >= 45 && id <= 47)) return 'time';
    return id === 22 ? 'datetime' : 'number';
  }
  // What stands in quotes, behind a backslash or in brackets is shown as it is; [h] counts hours.
  const plain = code
    .split(';', 1)[0]!
    .replaceAll(/"[^"]*"|\\.|_.|\*./g, '')
    .replaceAll(/\[(?!h+\]|m+\]|s+\])[^\]]*\]/gi, '')
    .toLowerCase();
  if (plain === 'general') return 'number';
  const time = /[hs]/.test(plain);
  if (/[yd]/.test(plain)) return time ? 'datetime' : 'date';
  if (time) return 'time';
  if (plain.includes('m')) return 'date';
  return plain.includes('%') ? 'percent' : 'number';
}

/** A number as its cell shows it, without the colours: 0.25 as 25%, day 45,000 as 2023-03-15. */
export function numberText(raw: string, kind: NumberKind, from1904: boolean): string {
  const value = Number(raw);
  if (raw.trim() === '' || !Number.isFinite(value)) return raw;
  if (kind === 'number') return shortest(value);
  if (kind === 'percent') return `${shortest(value * 100)}%`;
  // Rounded before it is split: a breath before midnight is the next day.
  const total = Math.round(value * DAY_SECONDS);
  const [days, seconds] = [Math.floor(total / DAY_SECONDS), total % DAY_SECONDS];
  // Negative days and those after 9999 are shown as ####.
  if (value < 0 || days > LAST_DAY) return shortest(value);
  const clock = new Date(seconds * 1000).toISOString().slice(11, seconds % 60 === 0 ? 16 : 19);
  if (kind === 'time') {
    // More than a day is a length of time: 36 hours, not noon.
    return days === 0 ? clock : `${days * 24 + Math.floor(seconds / 3600)}${clock.slice(2)}`;
  }
  const passed = days - (!from1904 && days > FALSE_LEAP_DAY ? 1 : 0);
  const start = from1904 ? EPOCH_1904 : EPOCH_1900;
  const date = new Date(start + passed * DAY_SECONDS * 1000).toISOString().slice(0, 10);
  return kind === 'date' || seconds === 0 ? date : `${date} ${clock}`;
}

/** Excel computes with 15 digits: 0.1 + 0.2 is 0.3 there. */
const shortest = (value: number): string => String(Number(value.toPrecision(15)));

/** Column and row of a reference such as `AB12`, both from 0; null where it is none. */
export function cellPlace(reference: string): { column: number; row: number } | null {
  const match = /^\$?([A-Z]{1,3})\$?(\d{1,7})$/i.exec(reference);
  if (!match) return null;
  let column = 0;
  for (const letter of match[1]!.toUpperCase()) column = column * 26 + letter.charCodeAt(0) - 64;
  const row = Number(match[2]);
  return column <= MAX_COLUMNS && row >= 1 ? { column: column - 1, row: row - 1 } : null;
}

/** Columns of a sheet (ECMA-376 leaves it open; Excel has as many). */
export const MAX_COLUMNS = 16_384;
