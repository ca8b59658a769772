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

// An answer goes to the text in focus and to no other; the next text is in focus at once, whatever the server takes.
function answer(key, row) {
  if (!row && rows().length) return step(0);
  const field = (row ?? document).querySelector(`form.answer [data-key="${key}"]`);
  field?.click(); // a button sends the form, a box is ticked
  if (row && field?.tagName === "BUTTON") step(1);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const row = current();
  const key = event.key;
  let done = true;
  if (key === "j" || key === "s" || key === "ArrowDown") step(1);
  else if (key === "k" || key === "ArrowUp") step(-1);
  else if (/^[1-9]$/.test(key)) answer(key, row);
  else if (key === "Enter" && row?.querySelector("button.save") && event.target.tagName !== "A") {
    row.querySelector("button.save").click();
    step(1);
  }
  else if (key === "u") document.querySelector("form[action='/texts/undo'] button, button[formaction='/texts/undo']")?.click();
  else if (key === "o" && row) row.querySelector("a.open")?.click();
  else done = false;
  if (done) event.preventDefault();
});

// The row of an answer is drawn anew: where that took the focus away, the text after it has it.
let next = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const row = event.detail.target?.closest?.("li.text[data-text]");
  next = row?.contains(document.activeElement) ? (row.nextElementSibling?.dataset.text ?? row.dataset.text) : null;
});
document.addEventListener("htmx:afterSwap", () => {
  if (next !== null) go(document.querySelector(`li.text[data-text="${next}"]`));
  next = null;
});

// Words that are marked in a text go into the field for a rule.
document.addEventListener("selectionchange", () => {
  const field = document.querySelector("#phrase");
  const marked = document.getSelection();
  const text = (marked.anchorNode?.parentElement ?? document).closest?.("#text, .text .words");
  if (!field || !text || marked.isCollapsed || !text.contains(marked.focusNode)) return;
  const words = marked.toString().replace(/\s+/g, " ").trim();
  if (words) field.value = words.slice(0, 1000);
});

if (rows().length) go((/^#text-\d+$/.test(location.hash) && document.querySelector(location.hash)) || rows()[0]);
