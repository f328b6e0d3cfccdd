// The timeline: zoom and move. The server draws; this asks for the next drawing, and shows at once where it will be.
"use strict";

const frame = document.getElementById("timeline");
const range = document.getElementById("view-range");
const duration = Number(frame.dataset.duration);
const drawing = () => frame.querySelector("svg");
let at = Number(frame.dataset.at);
let asked = 0;

const view = () => ({ start: Number(drawing().dataset.startS), end: Number(drawing().dataset.endS) });

/** Millimetres to seconds, and back, on the drawing that is there. */
function scale() {
  const svg = drawing(), { start, end } = view();
  const left = Number(svg.dataset.x0), wide = svg.viewBox.baseVal.width - left - Number(svg.dataset.right);
  return { time: (x) => start + (x - left) / wide * (end - start), x: (time) => left + (time - start) / (end - start) * wide };
}

function timeOf(event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing().getScreenCTM().inverse());
  return Math.min(duration, Math.max(0, scale().time(point.x)));
}

function mark(name, from, to) {
  const svg = drawing();
  svg.querySelector(`.${name}`)?.remove();
  if (from === null) return;
  const x = scale().x, element = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const low = Math.max(Number(svg.dataset.x0), x(from)), high = Math.min(svg.viewBox.baseVal.width - 2, x(to));
  if (high < low) return;
  element.setAttribute("class", name);
  element.setAttribute("x", low);
  element.setAttribute("width", Math.max(0.3, high - low));
  element.setAttribute("y", 0);
  element.setAttribute("height", svg.viewBox.baseVal.height - 6);
  element.setAttribute("pointer-events", "none");
  svg.append(element);
}

function shown() {
  const { start, end } = view(), two = (n) => String(Math.floor(n)).padStart(2, "0");
  const text = (s) => `${Math.floor(s / 3600)}:${two(s / 60 % 60)}:${two(s % 60)}`;
  const strip = document.querySelector("#strip svg"), from = Number(strip.dataset.startS);
  mark("here-box", from, from + (strip.viewBox.baseVal.width - strip.dataset.x0) / strip.dataset.speed);
  range.textContent = `${text(start)} – ${text(end)}`;
  const url = new URL(location);
  url.search = new URLSearchParams({ start_s: start.toFixed(3), end_s: end.toFixed(3), at_s: at.toFixed(3) });
  history.replaceState(null, "", url);
  document.querySelectorAll("a[data-speed], a[data-gain]").forEach((link) => {
    const to = new URL(link.href);
    for (const [key, value] of url.searchParams) to.searchParams.set(key, value);
    link.href = to;
  });
}

/** Asks for the drawing of a view; of several asked for at once, the last counts. */
async function look(start, end) {
  const length = Math.min(duration, Math.max(1, end - start));
  start = Math.min(Math.max(0, start), duration - length);
  const number = ++asked;
  const query = new URLSearchParams({ start_s: start.toFixed(3), end_s: (start + length).toFixed(3), width: frame.clientWidth });
  const answer = await fetch(`${frame.dataset.url}?${query}`);
  if (!answer.ok || number !== asked) return;
  frame.innerHTML = await answer.text();
  shown();
}

async function showStrip(time) {
  at = Math.min(duration, Math.max(0, time));
  shown();
  const wanted = at, answer = await fetch(`${frame.dataset.stripUrl}?at_s=${wanted.toFixed(3)}`);
  if (!answer.ok || wanted !== at) return;
  const place = document.getElementById("strip"), left = place.scrollLeft;
  place.innerHTML = await answer.text();
  place.scrollLeft = left;
  calipers.draw();
  shown();
}

function zoom(factor, around = at) {
  const { start, end } = view();
  const middle = around >= start && around <= end ? around : (start + end) / 2;
  look(middle - (middle - start) * factor, middle + (end - middle) * factor);
}

const moves = {
  in: () => zoom(0.5), out: () => zoom(2), all: () => look(0, duration),
  earlier: () => { const { start, end } = view(); look(start - (end - start) / 2, end - (end - start) / 2); },
  later: () => { const { start, end } = view(); look(start + (end - start) / 2, end + (end - start) / 2); },
};
document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", moves[button.dataset.zoom]));
document.querySelectorAll("[data-step]").forEach((button) =>
  button.addEventListener("click", () => showStrip(at + Number(button.dataset.step))));

frame.addEventListener("keydown", (event) => {
  const does = { "+": moves.in, "=": moves.in, "-": moves.out, ArrowLeft: moves.earlier, ArrowRight: moves.later, Home: moves.all };
  if (!(event.key in does) || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  does[event.key]();
});

frame.addEventListener("wheel", (event) => {
  if (event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.5 : 1 / 1.5, timeOf(event));
}, { passive: false });

frame.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.target.closest("a")) return;
  const from = timeOf(event), x = event.clientX;
  frame.setPointerCapture(event.pointerId);
  const move = (moved) => mark("here", Math.min(from, timeOf(moved)), Math.max(from, timeOf(moved)));
  frame.addEventListener("pointermove", move);
  frame.addEventListener("pointerup", (up) => {
    frame.removeEventListener("pointermove", move);
    mark("here", null);
    const to = timeOf(up);
    if (Math.abs(up.clientX - x) < 5) showStrip(to);
    else look(Math.min(from, to), Math.max(from, to));
  }, { once: true });
});

let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => look(view().start, view().end), 150); });
// The first drawing is as wide as this browser was last time; another window is another width.
if (Math.abs(drawing().getBoundingClientRect().width - frame.clientWidth) > 4) look(view().start, view().end);
else shown();
