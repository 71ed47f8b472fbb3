// The verdict of a page that verifies what it carries, by itself: it has no connection and needs none.

import { hasEd25519 } from "./ed25519.js";
import { LOG_KEY, parseVkey } from "./note.js";
import { Unsound, demand } from "./strict.js";

export const $ = (id) => document.getElementById(id);
export const words = JSON.parse($("words").textContent);

function tell(verdict, text, reason) {
  $("verdict").dataset.verdict = verdict;
  $("verdict").textContent = text;
  $("reason").textContent = reason;
}

/** The keys of the log that the page has, or that its reader put in place of them. */
async function logKeys() {
  const lines = $("log-vkey").value.split(/\s+/).filter(Boolean);
  demand(lines.length > 0, "without the key of the log nothing can be proven");
  return Promise.all(lines.map((line) => parseVkey(line, LOG_KEY)));
}

/** Verify now, and again when asked to: `check(logKeys)` gives the verdict, its words and the reason. */
export function verifying(check) {
  const verify = async () => {
    if (!(await hasEd25519())) {
      tell("unchecked", words.unable, "");
      return;
    }
    try {
      tell(...(await check(logKeys)));
    } catch (error) {
      if (!(error instanceof Unsound)) throw error;
      tell("failed", words.failed, error.message);
    }
  };
  $("again").addEventListener("click", verify);
  verify();
}
