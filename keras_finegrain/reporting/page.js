"use strict";
// What the page does beyond showing: light or dark, the contents list, and
// tables that are sorted and filtered. Without it everything is shown.
const all = (selector, within = document) => [
  ...within.querySelectorAll(selector),
];
const ROWS = 25; // What follows the table stays in reach.

function startScheme() {
  const button = document.querySelector(".scheme");
  const isDark = () => {
    const chosen = document.documentElement.dataset.scheme;
    return chosen ? chosen === "dark" : dark.matches;
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const name = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.onclick = () => {
    document.documentElement.dataset.scheme = isDark() ? "light" : "dark";
    name();
  };
  dark.onchange = name;
  button.hidden = false;
  name();
}

function startContents() {
  const list = document.querySelector(".contents details");
  const narrow = matchMedia("(max-width: 60rem)");
  const fold = () => (list.open = !narrow.matches);
  const links = all("a", list);
  for (const link of links) link.onclick = fold;
  narrow.onchange = fold;
  fold();
  const sections = links.map((link) => document.querySelector(link.hash));
  const mark = () => {
    // The last section whose start has been passed is the one being read.
    const passed = sections.filter((s) => s.getBoundingClientRect().top < 120);
    const current = Math.max(0, passed.length - 1);
    links.forEach((link, index) => {
      if (index === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

function startTable(block) {
  const table = block.querySelector("table");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const fields = all(".filters :is(input, select)", block);
  const count = block.querySelector("output");
  const more = document.createElement("button");
  let rows = [...body.rows];
  let most = ROWS;

  const keeps = (field, row) => {
    if (!field.value) return true;
    if (field.type === "search") {
      const text = row.textContent.toLowerCase();
      return text.includes(field.value.toLowerCase());
    }
    const cell = row.cells[field.dataset.column];
    return "least" in field.dataset
      ? Number(cell.dataset.value) >= Number(field.value)
      : cell.textContent === field.value;
  };
  const show = () => {
    const kept = rows.filter((row) => fields.every((f) => keeps(f, row)));
    for (const row of rows) row.hidden = true;
    for (const row of kept.slice(0, most)) row.hidden = false;
    if (count) count.textContent = `${kept.length} of ${rows.length}`;
    more.hidden = kept.length <= most;
    more.textContent = `Show all ${kept.length}`;
  };
  const sort = (heading, column) => {
    const way = heading.ariaSort === "ascending" ? "descending" : "ascending";
    for (const each of headings) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", way);
    const sign = way === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.value;
    const text = (row) => row.cells[column].textContent;
    rows.sort((a, b) => sign * (key(a) === undefined
      ? text(a).localeCompare(text(b), undefined, { numeric: true })
      : Number(key(a)) - Number(key(b))));
    body.append(...rows);
    show();
  };
  headings.forEach((heading, column) => {
    if (!heading.textContent || "fixed" in heading.dataset) return;
    const button = document.createElement("button");
    button.textContent = heading.textContent;
    button.onclick = () => sort(heading, column);
    heading.replaceChildren(button);
  });
  more.onclick = () => {
    most = Infinity;
    show();
  };
  block.append(more);
  for (const field of fields) field.oninput = show;
  for (const filters of all(".filters", block)) filters.hidden = false;
  // Paper has no buttons.
  addEventListener("beforeprint", more.onclick);
  show();
}

startScheme();
startContents();
all(".data").forEach(startTable);
addEventListener("beforeprint", () => {
  for (const details of all("details")) details.open = true;
});
