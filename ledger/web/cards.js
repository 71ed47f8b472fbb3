// An entry of the log as the page shows it: what it says, and what this browser found when it checked it.

import { canHash, checkReceipt, fromBase64, parseEntry, toHex } from "./bytes.js";
import { el } from "./dom.js";

const TYPES = {
  "consent.given": "Consent given",
  "consent.refused": "Consent refused",
  "consent.withdrawn": "Consent withdrawn",
};

/**
 * `leaves` maps seqs to the leaf hashes computed here so far, and gets this one's. `acts`: `again` sends the event
 * again, `verify` hands its receipt to the page that verifies, `save` to the person.
 */
export async function entryCard(entry, leaves, { again, verify, save }) {
  const { receipt } = entry;
  const payload = new TextDecoder().decode(fromBase64(receipt.payload));
  const event = JSON.parse(payload);
  let found = null;
  if (canHash()) {
    found = await checkReceipt(receipt, leaves);
    leaves.set(receipt.seq, found.leaf);
  }
  const chips = Object.entries(event.decisions).map(([purpose, answer]) =>
    el("li", { class: answer }, el("code", {}, purpose), `${purpose === "*" ? " every optional purpose" : ""} ${answer}`),
  );
  return el(
    "li",
    { "data-seq": receipt.seq },
    el(
      "h3",
      {},
      el("span", { class: "seq" }, `#${receipt.seq}`),
      ` ${TYPES[event.type]} `,
      el("time", { datetime: receipt.recordedAt }, `${receipt.recordedAt.slice(11, 23)} UTC`),
    ),
    el("ul", { class: "chips" }, chips),
    found ? el("ul", { class: "checks" }, found.checks.map(checkRow), signatureRow(found.signature)) : noHashes(),
    details(`${receipt.seq} entry`, "The entry, byte by byte", entryTable(receipt)),
    details(`${receipt.seq} payload`, "The payload, as stored beside the log", el("pre", { tabindex: 0 }, payload), saltRow(receipt)),
    el(
      "p",
      { class: "row" },
      el("button", { type: "button", class: "quiet verify", onclick: () => verify(entry) }, "Verify this receipt"),
      el("button", { type: "button", class: "quiet save", onclick: () => save(entry) }, "Save this receipt"),
      el("button", { type: "button", class: "quiet again", onclick: () => again(entry) }, "Send the same event again"),
    ),
    entry.sent.map((words) => el("p", { class: "fine sent" }, words)),
  );
}

function checkRow({ name, hash, holds, says }) {
  const mark = holds === null ? ["unknown", "?"] : holds ? ["holds", "✓"] : ["broken", "✗"];
  return el(
    "li",
    { class: mark[0], "data-check": name },
    el("span", { class: "mark", "aria-label": mark[0] }, mark[1]),
    el("span", {}, el("b", {}, name), " ", el("span", { class: "fine" }, says)),
    el("code", { class: "hash" }, toHex(hash)),
  );
}

function signatureRow(signature) {
  return el(
    "li",
    { "data-check": "Signature" },
    el("span", { class: "mark", "aria-hidden": "true" }, "✎"),
    el("span", {}, el("b", {}, "Signature"), " ", el("span", { class: "fine" }, "by the site's ingest key, Ed25519")),
    el("code", { class: "hash" }, toHex(signature)),
  );
}

const noHashes = () =>
  el("p", { class: "fine" }, "Browsers compute hashes on https and localhost only, so nothing was checked here.");

const saltRow = (receipt) =>
  el("p", { class: "fine" }, "Salt ", el("code", { class: "hash" }, toHex(fromBase64(receipt.salt))));

const details = (key, summary, ...content) =>
  el("details", { "data-key": key }, el("summary", {}, summary), ...content);

function entryTable(receipt) {
  const rows = parseEntry(fromBase64(receipt.entry)).map(({ name, start, bytes }) =>
    el("tr", {}, el("td", {}, String(start)), el("th", { scope: "row" }, name), el("td", {}, el("code", { class: "hash" }, toHex(bytes) || "empty"))),
  );
  const head = el("tr", {}, ["Offset", "Field", "Bytes"].map((title) => el("th", { scope: "col" }, title)));
  return el("table", { class: "bytes" }, el("thead", {}, head), el("tbody", {}, rows));
}
