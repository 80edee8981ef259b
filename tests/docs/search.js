// Prints the pages that the site's own search finds, the first one first: SITE WORDS.
const { readFileSync } = require("node:fs");
const vm = require("node:vm");

const [site, asked] = process.argv.slice(2);
const document = {
  addEventListener() {},
  getElementById: () => null,
  querySelectorAll: () => [],
  readyState: "loading",
};
const page = { asked, document, localStorage: { setItem() {} }, SPHINX_HIGHLIGHT_ENABLED: false };
page.window = page;
vm.createContext(page);
// As search.html has them.
for (const name of ["doctools", "searchtools", "language_data"])
  vm.runInContext(readFileSync(`${site}/_static/${name}.js`, "utf8"), page);
vm.runInContext(readFileSync(`${site}/searchindex.js`, "utf8"), page);
const found = vm.runInContext("Search._performSearch(...Search._parseQuery(asked))", page);
console.log(found.map(([name]) => name).reverse().join("\n"));
