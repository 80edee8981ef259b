// How the search orders what it finds: Sphinx's own scores, and where pages match alike those first
// that people look for who use the library, and those last that are for who works on it.
const WORTH = [
  [/^how-to\/runbook$/, 3],
  [/^(how-to\/|tutorial$)/, 2],
  [/^explanation\//, 1],
  [/^(design|wire|proof|planted-bugs)$|^project\//, -2],
];

var Scorer = {
  score: ([page, , , , score]) =>
    score + (WORTH.find(([pages]) => pages.test(page)) ?? [null, 0])[1],
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

// A line of a log has words that stand on no page, as names and numbers: of so many words a page is
// found that has nearly as many as any other.
const pagesWith = Search.performTermsSearch;
Search.performTermsSearch = (words, excluded) => {
  if (words.size < 5) return pagesWith(words, excluded);
  const pages = new Map();
  for (const word of words)
    for (const page of pagesWith(new Set([word]), excluded))
      pages.set(page[0], [...(pages.get(page[0]) ?? []), page]);
  const most = Math.max(...[...pages.values()].map((each) => each.length));
  return [...pages.values()]
    .filter((each) => each.length >= 0.75 * most)
    .map((each) => each.toSorted((one, other) => other[4] - one[4])[0]);
};
