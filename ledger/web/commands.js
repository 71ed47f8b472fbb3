// The same acts as commands for a terminal, to be copied.

import { el } from "./dom.js";

/** The blocks of a site: `{publishable, logId, logVkey}` are its keys. */
export function commandBlocks(site, { publishable, logId, logVkey }, visitor) {
  const base = `${location.origin}/v1/sites/${site}`;
  const key = `-H 'Authorization: Bearer ${publishable}'`;
  const refusal = { type: "consent.refused", visitor, decisions: { "*": "denied" }, action: "api" };
  const commands = [
    ["Say no to everything", [`curl -s ${base}/events`, key, "-H 'Content-Type: application/json'", `-d '${JSON.stringify(refusal)}'`]],
    ["Ask as analytics does", [`curl -s ${base}/consent`, key, `-H 'Consent-Visitor: ${visitor}'`]],
    [
      "Export the log and audit it offline",
      [`consent-ledger export ${site} bundle &&`, "consent-ledger verify bundle", `--log-vkey '${logVkey}'`, `--log-id ${logId}`],
    ],
  ];
  return commands.map(([title, parts]) => commandBlock(title, parts.join(" \\\n  ")));
}

/** A command with a button that copies it. */
export function commandBlock(title, command) {
  const button = el("button", { type: "button", class: "quiet", "aria-label": `Copy: ${title}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return el("div", { class: "command" }, el("p", { class: "row" }, el("b", {}, title), button), el("pre", { tabindex: 0 }, command));
}
