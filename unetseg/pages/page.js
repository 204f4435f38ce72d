"use strict";
// A table is sorted by a column when its heading is pressed, and the other way at the next press.
const number = (text) => {
  const found = text.replaceAll(",", "").replace("\u2212", "-").match(/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
};
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table"), body = table.tBodies[0];
    const column = heading.cellIndex, isNumber = heading.classList.contains("n");
    const isUp = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, text, value: isNumber ? number(text) : 0 };
    });
    // What has no value is last in both directions.
    rows.sort((a, b) => {
      if (!isNumber) return (isUp ? 1 : -1) * a.text.localeCompare(b.text, undefined, { numeric: true });
      if (Number.isNaN(a.value) || Number.isNaN(b.value)) return Number.isNaN(a.value) - Number.isNaN(b.value);
      return isUp ? a.value - b.value : b.value - a.value;
    });
    body.append(...rows.map((each) => each.row));
  });
}
// One device pixel, at any zoom.
const hair = () => document.documentElement.style.setProperty("--hair", `${1 / devicePixelRatio}px`);
hair();
addEventListener("resize", hair);
