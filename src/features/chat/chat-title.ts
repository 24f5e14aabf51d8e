/** Characters. */
const LONGEST_TITLE = 80;

/** What a chat is called until somebody calls it otherwise: the first sentence of its first question, cut between words. */
export function titleOf(question: string): string {
  const text = question.replace(/\s+/gu, ' ').trim();
  const sentence = /^.+?[.!?。！？](?=\s|$)/u.exec(text)?.[0] ?? text;
  const characters = Array.from(sentence);
  if (characters.length <= LONGEST_TITLE) return sentence;
  const cut = characters.slice(0, LONGEST_TITLE - 1).join('');
  const space = cut.lastIndexOf(' ');
  // A text without spaces is cut where it must be.
  return `${(space > LONGEST_TITLE / 2 ? cut.slice(0, space) : cut).replace(/[\s,;:–-]+$/u, '')}…`;
}
