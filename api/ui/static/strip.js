// The strip: what is shown of it, and calipers. Its unit is the millimetre; data- attributes say what one is worth.
"use strict";

const box = document.getElementById("strip");
const measure = document.getElementById("measure");
const SVG = "http://www.w3.org/2000/svg";
const strip = () => box.querySelector("svg");
const decimal = (value) => document.documentElement.lang === "en" ? value.toFixed(2) : value.toFixed(2).replace(".", ",");
const kept = (name) => localStorage.getItem(`ecg-${name}`);

/** Places on the drawing, in millimetres, of a pointer. */
function place(event) {
  const svg = strip();
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const { width, height } = svg.viewBox.baseVal;
  return { x: Math.min(width, Math.max(0, at.x)), y: Math.min(height, Math.max(0, at.y)) };
}

class Calipers {
  on = false;
  ends = null;

  toggle(on = !this.on) {
    this.on = on;
    box.classList.toggle("measuring", on);
    document.querySelector("[data-toggle=calipers]").setAttribute("aria-pressed", String(on));
    if (on && !this.ends) {
      const { width, height } = strip().viewBox.baseVal;
      const middle = (box.scrollLeft + box.clientWidth / 2) * 25.4 / 96;
      const x = Math.min(width - 5, Math.max(20, middle));
      this.ends = [{ x: x - 10, y: height * 0.3 }, { x: x + 10, y: height * 0.3 + 10 }];
    }
    if (on) box.focus({ preventScroll: true });
    this.draw();
  }

  clear() { this.ends = null; this.toggle(false); }

  /** Milliseconds between the two lines, and millivolts. */
  reading() {
    const svg = strip(), [a, b] = this.ends;
    return { ms: Math.abs(b.x - a.x) / svg.dataset.speed * 1000, mv: Math.abs(b.y - a.y) / svg.dataset.gain };
  }

  draw() {
    const svg = strip();
    svg.querySelector(".calipers")?.remove();
    measure.value = "";
    if (!this.on || !this.ends) return;
    const [a, b] = this.ends, group = document.createElementNS(SVG, "g");
    group.setAttribute("class", "calipers");
    const { width, height } = svg.viewBox.baseVal;
    const add = (kind, values) => {
      const element = document.createElementNS(SVG, kind);
      for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
      group.append(element);
      return element;
    };
    add("rect", { class: "caliper-box", x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), width: Math.abs(b.x - a.x), height: Math.abs(b.y - a.y) });
    for (const { x, y } of this.ends) {
      add("line", { class: "caliper", x1: x, x2: x, y1: 0, y2: height });
      add("line", { class: "caliper", x1: 0, x2: width, y1: y, y2: y });
    }
    const { ms, mv } = this.reading();
    const rate = ms > 0 ? ` (${Math.round(60000 / ms)} ${JSON.parse(measure.dataset.words).bpm})` : "";
    const text = `${Math.round(ms)} ms${rate} · ${decimal(mv)} mV`;
    add("text", { class: "caliper-text", x: Math.min(Math.max(a.x, b.x) + 1, width - 52), y: Math.max(8, Math.min(a.y, b.y) - 1) }).textContent = text;
    svg.append(group);
    measure.value = text;
  }
}

const calipers = new Calipers();

box.addEventListener("pointerdown", (event) => {
  if (!calipers.on || event.button !== 0 || event.target.closest("a")) return;
  event.preventDefault();
  box.focus({ preventScroll: true });
  box.setPointerCapture(event.pointerId);
  calipers.ends = [place(event), place(event)];
  const move = (moved) => { calipers.ends[1] = place(moved); calipers.draw(); };
  box.addEventListener("pointermove", move);
  box.addEventListener("pointerup", () => box.removeEventListener("pointermove", move), { once: true });
  calipers.draw();
});

box.addEventListener("keydown", (event) => {
  if (!calipers.on) return;
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key === "Escape") { calipers.clear(); return; }
  if (!(event.key in steps)) return;
  event.preventDefault();
  const end = calipers.ends[event.shiftKey ? 0 : 1], [dx, dy] = steps[event.key], by = event.repeat ? 0.5 : 0.1;
  const { width, height } = strip().viewBox.baseVal;
  end.x = Math.min(width, Math.max(0, end.x + dx * by));
  end.y = Math.min(height, Math.max(0, end.y + dy * by));
  calipers.draw();
});

function show(what, on) {
  document.body.classList.toggle(`no-${what}`, !on);
  document.querySelector(`[data-toggle=${what}]`).setAttribute("aria-pressed", String(on));
  localStorage.setItem(`ecg-${what}`, on ? "on" : "off");
}

document.querySelectorAll("[data-toggle]").forEach((button) => {
  const what = button.dataset.toggle;
  if (what === "calipers") { button.addEventListener("click", () => calipers.toggle()); return; }
  button.addEventListener("click", () => show(what, button.getAttribute("aria-pressed") !== "true"));
  if (kept(what) === "off") show(what, false);
});

/** The next or previous speed or gain: its link. */
function step(kind, by) {
  const links = [...document.querySelectorAll(`a[data-${kind}]`)];
  links[links.findIndex((link) => link.hasAttribute("aria-current")) + by]?.click();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const toggles = { c: "calipers", x: "expected", h: "heat" };
  if (event.key in toggles) document.querySelector(`[data-toggle=${toggles[event.key]}]`)?.click();
  const inTimeline = event.target.closest("#timeline");
  if (event.key === "[") step("speed", -1);
  if (event.key === "]") step("speed", 1);
  if (event.key === "-" && !inTimeline) step("gain", -1);
  if (event.key === "+" && !inTimeline) step("gain", 1);
});

// Where a strip is wider than its place, the leads' names and the scale stay in sight.
box.addEventListener("scroll", () => box.style.setProperty("--scrolled", `${box.scrollLeft * 25.4 / 96}px`), { passive: true });

// A strip wider than its place begins with the beat that is looked at in the middle.
const target = strip().querySelector(".flag-target");
if (target && box.scrollWidth > box.clientWidth) {
  box.scrollLeft = target.getBoundingClientRect().left - box.getBoundingClientRect().left - box.clientWidth / 2;
}
