// What analytics would be told, as rows of a table.

import { el } from "./dom.js";

const REASONS = {
  granted: "You agreed.",
  refused: "You said no.",
  withdrawn: "You took your consent back.",
  never_asked: "You have not been asked yet, and silence is no consent.",
  not_required: "Strictly necessary, so nobody asks.",
  opt_out_default: "Where you are, it is on until you object.",
  expired: "Your consent is too old, so it has to be asked for again.",
  policy_changed: "The policy has changed since you agreed.",
  gpc: "Your browser sends Global Privacy Control, which counts as a no.",
  suppressed: "You said no before you were forgotten, and that no stands.",
  erasure_pending: "You asked to be forgotten, so nothing is done any more.",
  restricted: "Your data is kept aside, and nothing is done with it.",
  conflict: "You agreed elsewhere on your account, but said no in this browser, so you have to be asked.",
  withdrawal_barred: "You took your consent back, but this one cannot be withdrawn yet.",
  age_unconfirmed: "Your age has to be confirmed first, or a guardian has to agree.",
  no_policy: "The site has no policy in force.",
  unknown_purpose: "The policy has no such purpose.",
};

/** `order`: ids of purposes, which come first; `titled` gives the words of a purpose of the policy in `language`. */
export function answerRows(decisions, order, titled, language) {
  const asked = [...new Set([...order, ...Object.keys(decisions)])].filter((id) => id in decisions);
  return asked.map((id) => {
    const told = decisions[id];
    const more = [
      told.status,
      told.regime,
      told.validUntil ? `until ${told.validUntil.slice(0, 10)}` : null,
      told.seq === undefined ? null : `by entry ${told.seq}`,
      told.ask ? "ask the visitor" : null,
    ];
    return el(
      "tr",
      { "data-purpose": id },
      el("th", { scope: "row" }, el("span", { lang: language }, titled(id)), el("code", {}, id)),
      el("td", {}, el("strong", { class: told.decision }, told.decision)),
      el(
        "td",
        {},
        el("span", {}, REASONS[told.reason] ?? told.reason),
        el("span", { class: "fine" }, [told.reason, ...more].filter(Boolean).join(" · ")),
      ),
    );
  });
}
