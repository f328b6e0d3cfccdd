// The review of a beat: a label that does not go with the verdict is let go; a verdict is sent once.
"use strict";

const form = document.getElementById("review");
form?.addEventListener("submit", (event) => {
  if (form.dataset.sent) { event.preventDefault(); return; }
  const chosen = form.querySelector("[name=label]:checked");
  if (chosen && !chosen.dataset.verdicts.split(" ").includes(event.submitter?.value)) {
    form.querySelector("[name=label][value='']").checked = true;
  }
  form.dataset.sent = "yes";
});
addEventListener("pageshow", () => { if (form) delete form.dataset.sent; });
