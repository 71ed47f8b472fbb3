// The page of a record verifies the receipt that it carries.
// What the page says around it was written by a server; from the receipt itself it shows what the log commits to.

import { el } from "./dom.js";
import { verifyReceipt } from "./receipt.js";
import { encodeUtf8 } from "./strict.js";
import { $, verifying, words } from "./verdict.js";

const RESULTS = { ok: ["✓", "ok"], failed: ["✗", "broken"], "not checked": ["–", "not_checked"] };

const row = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

/** What the verified payload holds, in its own words: ids and hashes, nothing that a server could have put in. */
function says({ event, receipt }) {
  const choices = Object.entries(event.decisions ?? {}).map(([purpose, answer]) => `${purpose}: ${answer}`);
  const rows = [
    [words.happened, `${event.type}, ${event.id}`],
    [words.recorded, receipt.recordedAt],
    [words.subject, event.visitor],
    [words.choice, choices.join(", ")],
    [words.policy, event.policyVersion],
    [words.place, [event.region, event.language].filter(Boolean).join(" · ")],
    ["SHA-256", event.shown],
  ].filter(([, value]) => value);
  return rows.map(([name, value]) => row(name, el("code", {}, value)));
}

function checkRow({ name, result, detail }) {
  const [mark, key] = RESULTS[result];
  return el(
    "li",
    { "data-check": name, "data-result": key },
    el("span", { class: "mark", "aria-hidden": "true" }, mark),
    el("span", {}, el("b", {}, words.checks[name] ?? name), " ", el("span", { class: "result" }, words[key]), el("span", { class: "detail", lang: "en" }, detail)),
  );
}

verifying(async (logKeys) => {
  $("checks").replaceChildren();
  $("from-receipt").hidden = true;
  const report = await verifyReceipt(encodeUtf8($("receipt").textContent, "the receipt"), { logVkeys: await logKeys() });
  const failed = report.checks.find(({ result }) => result === "failed");
  const verdict = report.verdict === "verified" || report.verdict === "failed" ? report.verdict : "unproven";
  $("checks").replaceChildren(...report.checks.map(checkRow));
  if (verdict !== "failed") {
    $("says").replaceChildren(...says(report));
    $("from-receipt").hidden = false;
  }
  return [verdict, words[verdict], verdict === "verified" ? words.verified_text : (failed?.detail ?? "")];
});
