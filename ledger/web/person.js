// The page of a person verifies every receipt that it carries.

import { verifyReceipt } from "./receipt.js";
import { encodeUtf8 } from "./strict.js";
import { $, verifying, words } from "./verdict.js";

const WORD_OF = { verified: "ok", failed: "broken", unproven: "not_checked" };

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

verifying(async (logKeys) => {
  const logVkeys = await logKeys();
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
  if (found.failed > 0) return ["failed", words.failed, why];
  if (found.unproven > 0) return ["unproven", words.unproven, words.some_unproven];
  return ["verified", words.verified, words.all_verified];
});
