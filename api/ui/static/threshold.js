// The threshold slider: every number it can show came with the page.
"use strict";

const slider = document.getElementById("slider");
if (slider) {
  const curve = JSON.parse(document.getElementById("curve").textContent);
  const { step, hours, total, none, own, ownConfirmed } = slider.dataset;
  const language = document.documentElement.lang;
  const number = (value, digits = 0) =>
    value.toLocaleString(language === "pt" ? "de-DE" : "en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const out = (name, text) => document.querySelectorAll(`[data-out=${name}]`).forEach((place) => { place.textContent = text; });
  const bar = document.querySelector(".chosen-threshold"), chart = bar.ownerSVGElement;

  const show = () => {
    const at = Math.min(curve.flagged.length - 1, Math.max(0, Math.round(slider.value / step)));
    const flagged = curve.flagged[at], confirmed = curve.confirmed[at], rejected = curve.rejected[at];
    out("threshold", number(at * step, 2));
    out("flagged", number(flagged));
    out("share", `${number(100 * flagged / total, 2)} %`);
    out("hour", hours > 0 ? number(flagged / hours) : "-");
    out("confirmed", number(confirmed));
    out("rejected", number(rejected));
    out("precision", confirmed + rejected ? `${number(100 * confirmed / (confirmed + rejected), 1)} %` : none);
    out("lost", number(Math.max(0, ownConfirmed - confirmed)));
    bar.setAttribute("x", Number(chart.dataset.x0) + at * chart.dataset.wide - 0.2);
  };
  slider.addEventListener("input", show);
  document.querySelector("button[data-own]").addEventListener("click", () => { slider.value = own; show(); });
}
