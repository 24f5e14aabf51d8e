/**
 * Whether a pattern stands for all of a path. `*` stands for any characters, none and slashes too; everything else for
 * itself. Each stretch between two stars is searched for once, from where the one before it ended.
 */
export function matchesPath(pattern: string, path: string): boolean {
  const [start = '', ...stretches] = pattern.split('*');
  const end = stretches.pop();
  if (end === undefined) return pattern === path;
  if (!path.startsWith(start) || !path.endsWith(end)) return false;
  let at = start.length;
  for (const stretch of stretches) {
    const found = path.indexOf(stretch, at);
    if (found === -1) return false;
    at = found + stretch.length;
  }
  return at <= path.length - end.length;
}
