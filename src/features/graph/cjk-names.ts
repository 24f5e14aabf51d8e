export interface CjkName {
  name: string;
  /** In the text. */
  place: number;
}

const QUOTED = /[《「『【]([^《》「」『』【】\n]{2,24})[》」』】]/gu;
/** Foreign names; words of one or two characters are as a rule none. */
const KATAKANA = /[\p{Script=Katakana}ー]{3,}(?:[・=＝][\p{Script=Katakana}ー]{2,})*/gu;
const HAN_RUN = /\p{Script=Han}+/gu;
const ENDINGS =
  '有限公司 公司 大学 大學 学院 學院 银行 銀行 集团 集團 研究所 研究院 医院 醫院 委员会 委員会 委員會 株式会社 会社 新聞 出版社 博物館 博物馆 电视台'.split(
    ' ',
  );
/** Characters in front of such an ending, which has no sign of where the name begins. */
const LONGEST_STEM = 8;
/** Characters that stand before a name and are none of it. */
const BEFORE_NAME = new Set('在于於由与與和及是的了从從向对對把被为為到就任入加创創立办辦');
const HONORIFIC = /(\p{Script=Han}{2,4})(?=さん|氏|先生|教授|博士|様)/gu;

/** What Chinese and Japanese texts mark as names: neither parts words, nor has capitals. */
export function cjkNames(text: string): CjkName[] {
  const names: CjkName[] = [];
  const add = (name: string, place: number) => void names.push({ name, place });
  for (const match of text.matchAll(QUOTED)) add(match[1] as string, match.index);
  for (const match of text.matchAll(KATAKANA)) add(match[0], match.index);
  for (const match of text.matchAll(HONORIFIC)) add(match[1] as string, match.index);
  for (const match of text.matchAll(HAN_RUN)) names.push(...organisations(match[0], match.index));
  return names;
}

function organisations(run: string, place: number): CjkName[] {
  const names: CjkName[] = [];
  let from = 0;
  for (let at = 2; at < run.length; at++) {
    const ending = ENDINGS.find(known => run.startsWith(known, at));
    if (!ending) continue;
    let start = Math.max(from, at - LONGEST_STEM);
    for (let before = start; before < at; before++)
      if (BEFORE_NAME.has(run[before] as string)) start = before + 1;
    const end = at + ending.length;
    if (at - start >= 2) names.push({ name: run.slice(start, end), place: place + start });
    from = end;
    at = end - 1;
  }
  return names;
}
