import { describe, expect, it } from 'vitest';
import { historyOf, newestOf } from './chat-history.js';

const user = (content: string) => ({ role: 'user' as const, content });
const assistant = (content: string) => ({ role: 'assistant' as const, content });

describe('historyOf', () => {
  it('is what was said, the oldest first, without the numbers of passages', () => {
    const said = [
      user('How long?'),
      assistant('Ten years. [1] Or more [2][3].'),
      user('Why?'),
      assistant('So.'),
    ];
    expect(historyOf(said)).toEqual([
      user('How long?'),
      assistant('Ten years. Or more.'),
      user('Why?'),
      assistant('So.'),
    ]);
  });

  it('leaves out what nobody has answered', () => {
    const said = [
      user('How long?'),
      assistant(''),
      user('Hello?'),
      user('Why?'),
      assistant('So.'),
      user('And?'),
    ];
    expect(historyOf(said)).toEqual([user('Why?'), assistant('So.')]);
  });

  it('keeps the latest that there is room for', () => {
    const said = Array.from({ length: 10 }, (_, i) => [
      user(`Question ${i}`),
      assistant('word '.repeat(100)),
    ]).flat();
    const history = historyOf(said, 400);
    expect(history.length).toBeGreaterThan(0);
    expect(history.length).toBeLessThan(said.length);
    expect(history.at(-2)).toEqual(user('Question 9'));
    expect(historyOf(said, 0)).toEqual([]);
  });
});

describe('newestOf', () => {
  const history = [user('How long?'), assistant('Ten years.'), user('Why?'), assistant('So.')];

  it('keeps whole questions with their answers', () => {
    expect(newestOf(history, 1000)).toEqual(history);
    expect(newestOf(history, 4)).toEqual(history.slice(2));
    expect(newestOf(history, 1)).toEqual([]);
    expect(newestOf([], 10)).toEqual([]);
  });
});
