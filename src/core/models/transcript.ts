/** Something that was said without a break. Seconds from the beginning of the recording. */
export interface Segment {
  start: number;
  end: number;
  text: string;
}

/** Seconds between two headings. */
const HEADING_EVERY = 180;
/** Seconds of silence that begin a new paragraph, and characters after which the end of a sentence does. */
const PAUSE = 2;
const LONG_PARAGRAPH = 600;

/**
 * Segments as paragraphs, with the time as a heading (`## [00:12:30]`) every few minutes, at a paragraph's beginning.
 * A recording that is shorter has none.
 */
export function paragraphsOf(segments: readonly Segment[]): { text: string; format: 'markdown' | 'plain' } {
  const paragraphs: Array<{ start: number; text: string }> = [];
  let end = -Infinity;
  for (const segment of segments) {
    const text = segment.text.replaceAll(/\s+/g, ' ').trim();
    if (text === '') continue;
    const last = paragraphs.at(-1);
    const full = last && last.text.length >= LONG_PARAGRAPH && /[.!?…。！？]["'”»)]?$/.test(last.text);
    if (!last || full || segment.start - end > PAUSE) paragraphs.push({ start: segment.start, text });
    else last.text += ` ${text}`;
    ({ end } = segment);
  }
  if (end <= HEADING_EVERY) return { text: joined(paragraphs.map(({ text }) => text)), format: 'plain' };
  let next = 0;
  const lines = paragraphs.flatMap(({ start, text }) => {
    // What begins like a heading is not one: it was said.
    const said = text.replace(/^(?=#|```|~~~)/, '\\');
    if (start < next) return [said];
    next = start + HEADING_EVERY;
    return [`## [${clock(start)}]`, said];
  });
  return { text: joined(lines), format: 'markdown' };
}

const joined = (paragraphs: string[]): string => paragraphs.join('\n\n');

/** `01:02:03` */
function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return [whole / 3600, (whole / 60) % 60, whole % 60]
    .map(part => String(Math.floor(part)).padStart(2, '0'))
    .join(':');
}
