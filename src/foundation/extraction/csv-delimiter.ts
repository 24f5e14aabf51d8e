const DELIMITERS = [',', ';', '\t', '|'];
const SAMPLE_LINES = 30;

/**
 * The character that separates the values of a table: the one that most lines hold as often as the first
 * does. Null where no line holds any.
 *
 * @param head the text's beginning, whose last line may be cut
 */
export function delimiterOf(head: string): string | null {
  let best: { delimiter: string; equal: number; count: number } | null = null;
  for (const delimiter of DELIMITERS) {
    const [first = 0, ...others] = countsPerLine(head, delimiter);
    if (first === 0) continue;
    const equal = others.filter(count => count === first).length;
    if (!best || equal > best.equal || (equal === best.equal && first > best.count)) {
      best = { delimiter, equal, count: first };
    }
  }
  return best?.delimiter ?? null;
}

/** Whether a text that nothing names is a table: five lines or more, all with as many values, three or more. */
export function isTable(head: string): boolean {
  // Not `|`, of which the tables of Markdown are made.
  return [',', ';', '\t'].some(delimiter => {
    const [first = 0, ...others] = countsPerLine(head, delimiter);
    return first >= 2 && others.length >= 4 && others.every(count => count === first);
  });
}

/** How often a character stands in each line, those within quotation marks not counted. */
function countsPerLine(head: string, delimiter: string): number[] {
  const counts: number[] = [];
  let count = 0;
  let quoted = false;
  let blank = true;
  for (const char of head.slice(0, 64 * 1024).replaceAll(/\r\n?/g, '\n')) {
    if (char === '"') quoted = !quoted;
    else if (char === '\n' && !quoted) {
      if (!blank) counts.push(count);
      [count, blank] = [0, true];
      if (counts.length >= SAMPLE_LINES) return counts;
      continue;
    } else if (char === delimiter && !quoted) count++;
    if (char.trim() !== '' || char === delimiter) blank = false;
  }
  // The last line may be cut; it counts only where there is no other.
  return counts.length === 0 ? [count] : counts;
}
