// The banner by which a visitor chooses: its words are those of the notice on record, and each purpose has a row.

import { el } from "./dom.js";

const $ = (id) => document.getElementById(id);

/** The words that the policy's notice has on record: what is cited is what stands here. */
export function showNotice(notice, { site, text, language }) {
  const said = text(notice?.texts) || { title: `Cookies on ${site}`, body: [], labels: {} };
  $("banner-title").textContent = said.title;
  $("banner-text").replaceChildren(...(said.body ?? []).map((paragraph) => el("p", {}, paragraph)));
  const controls = { accept: "accept_all", refuse: "only_necessary", customise: "customize", withdraw: "withdraw" };
  for (const [id, action] of Object.entries(controls)) {
    const button = $(id);
    button.dataset.plain ??= button.textContent;
    button.textContent = said.labels[action] ?? button.dataset.plain;
  }
  for (const id of ["banner-title", "banner-text", ...Object.keys(controls)]) {
    if (notice) $(id).lang = language;
    else $(id).removeAttribute("lang");
  }
}

/** A purpose to be chosen, with what it is for. */
export function purposeRow(id, purpose, { text, language }) {
  const box = el("input", {
    type: "checkbox",
    id: `purpose-${id}`,
    "aria-describedby": `about-${id}`,
    checked: Boolean(purpose.required),
    disabled: Boolean(purpose.required),
  });
  const stored = (purpose.cookies ?? []).map((cookie) => cookie.name ?? cookie.pattern).filter(Boolean);
  const details = stored.length ? el("p", { class: "fine" }, `Stores ${stored.join(", ")}.`) : null;
  return el(
    "div",
    { class: "purpose" },
    box,
    el("label", { for: box.id, lang: language }, text(purpose.title), purpose.required ? el("span", { class: "tag" }, "always on") : null),
    el("div", { id: `about-${id}` }, el("p", { lang: language }, text(purpose.description)), details),
  );
}
