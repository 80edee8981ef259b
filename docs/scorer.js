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
