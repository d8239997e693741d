"use strict";
(() => {
  const collator = new Intl.Collator("en", { numeric: true });

  // the number that a cell begins with: "4 of 5" is 4, "<0.001*" is 0.001; what is no number comes last either way
  const number = (text) => {
    const found = text.replace(/^[<>]/, "").match(/^[+-]?\d+(\.\d+)?/);
    return found ? parseFloat(found[0]) : NaN;
  };

  const sort = (table, heading) => {
    const headings = [...heading.parentElement.children];
    const column = headings.indexOf(heading);
    const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const names = heading.classList.contains("text");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, text, value: number(text) };
    });
    rows.sort((a, b) => {
      if (names) return direction * collator.compare(a.text, b.text);
      if (isNaN(a.value) || isNaN(b.value)) return isNaN(a.value) - isNaN(b.value) || collator.compare(a.text, b.text);
      return direction * (a.value - b.value);
    });
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    body.append(...rows.map(({ row }) => row));
  };

  for (const box of document.querySelectorAll(".table")) {
    const table = box.querySelector("table");
    for (const heading of table.tHead.rows[0].cells) {
      heading.querySelector("button").addEventListener("click", () => sort(table, heading));
    }
    const tools = box.querySelector(".tools");
    if (!tools) continue;
    tools.hidden = false;
    const said = tools.querySelector("output");
    tools.querySelector("input").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      said.textContent = words.length ? `${shown} of ${table.tBodies[0].rows.length} rows` : `${shown} rows`;
    });
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) isIntersecting ? seen.add(target) : seen.delete(target);
    const first = [...document.querySelectorAll("section")].find((section) => seen.has(section));
    for (const link of links.values()) link.removeAttribute("aria-current");
    if (first) links.get(first.id).setAttribute("aria-current", "true");
  }, { rootMargin: "-80px 0px -60% 0px" });
  for (const section of document.querySelectorAll("section")) observer.observe(section);
})();
