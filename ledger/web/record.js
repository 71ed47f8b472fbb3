// The page of a record verifies the receipt that it carries, by itself: it has no connection and needs none.
// What the page says around it was written by a server; from the receipt itself it shows what the log commits to.

import { el } from "./dom.js";
import { hasEd25519 } from "./ed25519.js";
import { LOG_KEY, parseVkey } from "./note.js";
import { verifyReceipt } from "./receipt.js";
import { Unsound, demand, encodeUtf8 } from "./strict.js";

const $ = (id) => document.getElementById(id);
const words = JSON.parse($("words").textContent);
const RESULTS = { ok: ["✓", "ok"], failed: ["✗", "broken"], "not checked": ["–", "not_checked"] };

function tell(verdict, text, reason) {
  $("verdict").dataset.verdict = verdict;
  $("verdict").textContent = text;
  $("reason").textContent = reason;
}

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

async function keys() {
  const lines = $("log-vkey").value.split(/\s+/).filter(Boolean);
  demand(lines.length > 0, "without the key of the log nothing can be proven");
  return Promise.all(lines.map((line) => parseVkey(line, LOG_KEY)));
}

async function verify() {
  $("checks").replaceChildren();
  $("from-receipt").hidden = true;
  if (!(await hasEd25519())) {
    tell("unchecked", words.unable, "");
    return;
  }
  try {
    const report = await verifyReceipt(encodeUtf8($("receipt").textContent, "the receipt"), { logVkeys: await keys() });
    const failed = report.checks.find(({ result }) => result === "failed");
    const verdict = report.verdict === "verified" || report.verdict === "failed" ? report.verdict : "unproven";
    tell(verdict, words[verdict], verdict === "verified" ? words.verified_text : (failed?.detail ?? ""));
    $("checks").replaceChildren(...report.checks.map(checkRow));
    if (verdict !== "failed") {
      $("says").replaceChildren(...says(report));
      $("from-receipt").hidden = false;
    }
  } catch (error) {
    if (!(error instanceof Unsound)) throw error;
    tell("failed", words.failed, error.message);
  }
}

$("again").addEventListener("click", verify);
verify();
