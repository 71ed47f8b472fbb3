// The page of a person verifies every receipt that it carries, by itself: it has no connection and needs none.

import { hasEd25519 } from "./ed25519.js";
import { LOG_KEY, parseVkey } from "./note.js";
import { verifyReceipt } from "./receipt.js";
import { Unsound, demand, encodeUtf8 } from "./strict.js";

const $ = (id) => document.getElementById(id);
const words = JSON.parse($("words").textContent);
const WORD_OF = { verified: "ok", failed: "broken", unproven: "not_checked" };

function tell(verdict, text, reason) {
  $("verdict").dataset.verdict = verdict;
  $("verdict").textContent = text;
  $("reason").textContent = reason;
}

async function keys() {
  const lines = $("log-vkey").value.split(/\s+/).filter(Boolean);
  demand(lines.length > 0, "without the key of the log nothing can be proven");
  return Promise.all(lines.map((line) => parseVkey(line, LOG_KEY)));
}

/** One text for one value, in whatever order its members came. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (value === null || typeof value !== "object") return typeof value === "string" ? JSON.stringify(value) : String(value);
  return `{${Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join()}}`;
}

/** The receipt of one event: its verdict, and that it says what the page's data says of the event. */
async function verifyEvent({ seq, event, receipt }, logVkeys) {
  const report = await verifyReceipt(encodeUtf8(JSON.stringify(receipt), "the receipt"), { logVkeys });
  const failed = report.checks.find(({ result }) => result === "failed");
  if (failed) return ["failed", `${seq}: ${failed.detail}`];
  if (report.receipt.seq !== BigInt(seq) || canonical(report.event) !== canonical(event)) {
    return ["failed", `${seq}: the receipt is of another event`];
  }
  return [report.verdict === "verified" ? "verified" : "unproven", ""];
}

async function verify() {
  if (!(await hasEd25519())) {
    tell("unchecked", words.unable, "");
    return;
  }
  try {
    const logVkeys = await keys();
    const told = JSON.parse($("export").textContent);
    const found = { verified: 0, failed: 0, unproven: 0 };
    let why = "";
    for (const one of told.events ?? []) {
      const [verdict, reason] = await verifyEvent(one, logVkeys);
      found[verdict] += 1;
      why ||= reason;
      const cell = document.querySelector(`[data-seq="${Number(one.seq)}"]`);
      cell.textContent = words[WORD_OF[verdict]];
      cell.dataset.result = WORD_OF[verdict];
    }
    if (found.failed > 0) tell("failed", words.failed, why);
    else if (found.unproven > 0) tell("unproven", words.unproven, words.some_unproven);
    else tell("verified", words.verified, words.all_verified);
  } catch (error) {
    if (!(error instanceof Unsound)) throw error;
    tell("failed", words.failed, error.message);
  }
}

$("again").addEventListener("click", verify);
verify();
