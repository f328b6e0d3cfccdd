// Every page: help, keys, rows of a list. Without it everything still works, by links and buttons.
"use strict";

const typing = (target) => target.closest("input:not([type=radio]):not([type=checkbox]), textarea, select, dialog[open]") !== null;

/** Follows a link, presses a button, chooses a radio button, or goes into a field. */
function activate(element) {
  if (element.matches("select, textarea")) element.focus();
  else element.click();
}

function moveRow(list, step) {
  const rows = [...list.tBodies[0].rows].filter((row) => row.querySelector("th a"));
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("chosen"));
  const to = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step))];
  rows.forEach((row) => row.classList.toggle("chosen", row === to));
  to.querySelector("th a").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape" && typing(event.target) && !event.target.closest("dialog")) { event.target.blur(); return; }
  if (typing(event.target)) return;
  const help = document.getElementById("help");
  if (event.key === "?") { event.preventDefault(); help.showModal(); return; }
  if (event.key === "w") { location.assign("/ui"); return; }
  const wanted = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (wanted) {
    event.preventDefault();
    if (!wanted.matches("[aria-disabled=true]")) activate(wanted);
    return;
  }
  const list = document.querySelector("table[data-list]");
  if (list && (event.key === "j" || event.key === "k")) { event.preventDefault(); moveRow(list, event.key === "j" ? 1 : -1); }
});

document.querySelectorAll("[data-help]").forEach((button) =>
  button.addEventListener("click", () => document.getElementById("help").showModal()));
document.querySelectorAll("[data-print]").forEach((button) => button.addEventListener("click", () => print()));
document.querySelectorAll("form[data-auto] select").forEach((select) =>
  select.addEventListener("change", () => select.form.requestSubmit()));

// Rows are links as a whole, for the pointer.
document.querySelectorAll("table[data-list] tbody").forEach((body) => body.addEventListener("click", (event) => {
  const link = event.target.closest("tr")?.querySelector("th a");
  if (link && !event.target.closest("a, button") && !getSelection().toString()) link.click();
}));

// Drawings that fill the page are made as wide as it is: the next one is right at once.
const width = document.getElementById("main").clientWidth - 34;
document.cookie = `ecg_width=${Math.round(width)};path=/ui;max-age=31536000;samesite=strict`;
