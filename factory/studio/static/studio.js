// Keys on the pages of the texts, and words marked in a text. The pages work without this file.

const typing = (element) => element.closest("input:not([type=checkbox]), textarea, select") !== null;
const rows = () => [...document.querySelectorAll("li.text[data-text]")];
const current = () => document.activeElement?.closest("li.text[data-text]");

function go(to) {
  if (!to) return;
  to.focus({ preventScroll: true });
  to.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const all = rows();
  const at = all.indexOf(current());
  go(all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)]);
}

function answer(key, row) {
  const form = (row ?? document).querySelector("form.answer");
  const field = form?.querySelector(`[data-key="${key}"]`);
  if (!field) return false;
  field.click(); // a button sends the form, a box is ticked
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const row = current();
  const key = event.key;
  let done = true;
  if (key === "j" || key === "s" || key === "ArrowDown") step(1);
  else if (key === "k" || key === "ArrowUp") step(-1);
  else if (/^[1-9]$/.test(key)) done = answer(key, row ?? rows()[0]);
  else if (key === "Enter" && row && event.target === row) row.querySelector("button.save")?.click();
  else if (key === "u") document.querySelector("form[action='/texts/undo'] button, button[formaction='/texts/undo']")?.click();
  else if (key === "o" && row) row.querySelector("a.open")?.click();
  else done = false;
  if (done) event.preventDefault();
});

// After an answer its row is drawn anew: go on with the next one.
let next = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const row = event.detail.target?.closest?.("li.text[data-text]");
  next = row ? row.nextElementSibling ?? row : null;
  if (next === row && row) next = `li.text[data-text="${row.dataset.text}"]`;
});
document.addEventListener("htmx:afterSettle", () => {
  go(typeof next === "string" ? document.querySelector(next) : next);
  next = null;
});

// Words that are marked in a text go into the field for a rule.
document.addEventListener("selectionchange", () => {
  const field = document.querySelector("#phrase");
  const marked = document.getSelection();
  const text = document.querySelector("#text");
  if (!field || !text || marked.isCollapsed || !text.contains(marked.anchorNode) || !text.contains(marked.focusNode)) return;
  const words = marked.toString().replace(/\s+/g, " ").trim();
  if (words) field.value = words.slice(0, 1000);
});

if (rows().length && !location.hash) go(rows()[0]);
