/** Text on one line, with single blanks. */
export const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();

export const markdownHeading = (level: number, title: string): string =>
  `${'#'.repeat(Math.min(Math.max(level, 1), 6))} ${oneLine(title)}`;

/** A table of GitHub's Markdown whose first row is the header; '' where no cell holds anything. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const filled = rows.filter(row => row.some(cell => cell.trim() !== ''));
  const [header, ...body] = filled;
  if (!header) return '';
  // Not Math.max(...lengths): there may be more rows than a call has arguments.
  const columns = filled.reduce((most, row) => Math.max(most, row.length), 0);
  const line = (row: readonly string[]) =>
    `|${Array.from({ length: columns }, (_, at) => ` ${oneLine(row[at] ?? '').replaceAll('|', '\\|')} |`).join('')}`;
  return [line(header), `|${' --- |'.repeat(columns)}`, ...body.map(line)].join('\n');
}
