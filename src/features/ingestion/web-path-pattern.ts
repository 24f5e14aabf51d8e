/**
 * Whether a pattern stands for all of a path. `*` stands for any characters, none and slashes too; everything else for
 * itself. In time that grows with the product of both lengths at worst, whatever the pattern.
 */
export function matchesPath(pattern: string, path: string): boolean {
  let [at, inPattern] = [0, 0];
  // Where the last star stands, and up to where it reaches so far.
  let [star, reach] = [-1, 0];
  while (at < path.length) {
    if (pattern[inPattern] === '*') {
      star = inPattern++;
      reach = at;
    } else if (pattern[inPattern] === path[at]) {
      inPattern++;
      at++;
    } else if (star >= 0) {
      inPattern = star + 1;
      at = ++reach;
    } else return false;
  }
  while (pattern[inPattern] === '*') inPattern++;
  return inPattern === pattern.length;
}
