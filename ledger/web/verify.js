// The page on which a person verifies a receipt: reads what was brought, shows every step and what it amounts to.
// Words that come from a receipt are only ever text nodes. It sends nothing: its policy would not let it.

import { el } from "./dom.js";
import { hasEd25519, isAcceptable } from "./ed25519.js";
import { LOG_KEY, WITNESS_KEY, parseVkey } from "./note.js";
import { isAct } from "./payload.js";
import { secondOf, verifyReceipt } from "./receipt.js";
import { Unsound, decodeBase64, decodeUtf8, demand } from "./strict.js";

const HANDED_OVER = "consent-ledger:receipt";
const MAX_FILE_BYTES = 4 * 1024 * 1024;
const TYPES = {
  "consent.given": "Consent given",
  "consent.refused": "Consent refused",
  "consent.withdrawn": "Consent withdrawn",
  "consent.dismissed": "Question closed without an answer",
  "notice.seen": "Notice seen",
  "account.linked": "Linked to an account",
  "account.unlinked": "Unlinked from an account",
  "consent.expired": "Consent expired",
  "consent.invalidated": "Consent ended by a new version of the policy",
};
const ACTIONS = {
  accept_all: "accepted everything",
  only_necessary: "kept to what is strictly necessary",
  customize: "chose purpose by purpose when first asked",
  settings: "changed the choice in the settings",
  withdraw: "took consent back",
  dismiss: "closed the question without an answer",
  gpc: "the browser sent a Global Privacy Control signal",
  api: "recorded by a backend for the visitor",
  import: "taken over from another system",
  guardian: "a guardian acted for a child",
};
const AUTHENTICATIONS = {
  secret: "the site's backend, with a secret key",
  ledger: "the ledger itself: nobody acted",
};
const MARKS = {
  ok: ["holds", "✓", "ok"],
  failed: ["broken", "✗", "failed"],
  "not checked": ["unknown", "–", "not checked"],
};
const $ = (id) => document.getElementById(id);

// --- What the reader brings -------------------------------------------------------------------------------------------

const INPUTS = ["receipt", "log-vkey", "witnesses", "log-id", "ingest"];

function fault(field, reason) {
  $(`${field}-fault`).textContent = reason ?? "";
  $(`${field}-fault`).hidden = !reason;
  if (reason) $(field).setAttribute("aria-invalid", "true");
  else $(field).removeAttribute("aria-invalid");
}

/** What `read` gives of a field; what can not be used is told beside it, and then it is undefined. */
async function take(field, read) {
  try {
    const value = await read($(field).value.trim());
    fault(field, null);
    return value;
  } catch (error) {
    if (!(error instanceof Unsound)) throw error;
    fault(field, `This can not be used: ${error.message}.`);
    return undefined;
  }
}

const wordsOf = (text) => text.split(/\s+/).filter(Boolean);
const vkeysOf = async (text, type) => Promise.all(wordsOf(text).map((line) => parseVkey(line, type)));

async function takeTrust() {
  const logVkeys = await take("log-vkey", async (text) => {
    demand(text !== "", "without the key of the log nothing can be proven");
    return vkeysOf(text, LOG_KEY);
  });
  const witnesses = await take("witnesses", (text) => vkeysOf(text, WITNESS_KEY));
  const logId = await take("log-id", (text) => {
    demand(text === "" || /^[0-9a-f]{64}$/.test(text), "a log id has 64 hex digits in lower case");
    return text === "" ? null : Uint8Array.from(text.match(/../g), (pair) => Number.parseInt(pair, 16));
  });
  const ingest = await take("ingest", (text) => {
    demand(text === "" || $("log-id").value.trim() !== "", "it needs the id of the log beside it");
    const key = text === "" ? null : decodeBase64(text, "the key");
    demand(key === null || isAcceptable(key), "it is no Ed25519 key");
    return key;
  });
  const trust = { logVkeys, witnesses, logId, ingest };
  const wrong = { "log-vkey": logVkeys, witnesses, "log-id": logId, ingest };
  const first = Object.keys(wrong).find((field) => wrong[field] === undefined);
  if (first === undefined) return trust;
  if (first === "log-id" || first === "ingest") $("more").open = true;
  $(first).focus();
  return null;
}

/** The log's key as the server told it for the receipt's site, unless the reader has put in one. */
function fillIn() {
  const known = JSON.parse($("known-logs").textContent);
  let site = null;
  try {
    site = JSON.parse($("receipt").value).site;
  } catch {
    return; // no receipt yet, or none at all: verifying will say so
  }
  if ($("log-vkey").value.trim() === "" && typeof site === "string" && Object.hasOwn(known, site)) {
    $("log-vkey").value = known[site];
    $("filled-in").hidden = false;
  }
}

async function readFile(file) {
  if (!file) return;
  if (file.size > MAX_FILE_BYTES) {
    fault("receipt", "This file is too long for a receipt.");
    return;
  }
  try {
    $("receipt").value = decodeUtf8(await file.arrayBuffer(), "the file");
  } catch (error) {
    if (!(error instanceof Unsound)) throw error;
    $("receipt").value = "";
    fault("receipt", `This can not be used: ${error.message}.`);
    return;
  }
  fault("receipt", null);
  fillIn();
}

// --- What came of it --------------------------------------------------------------------------------------------------

function headline({ verdict, proof, receipt, checks }) {
  const failed = checks.find((check) => check.result === "failed");
  return {
    verified: () => ["Verified", `The log ${proof.checkpoint.origin} holds this event, as entry ${receipt.seq}.`],
    accepted: () => ["Accepted only", "The operator's server signed this event, but there is no proof that the log holds it."],
    unproven: () => ["Not proven", "The receipt is consistent in itself, but nothing in it is signed that could be checked."],
    failed: () => ["Failed", `Do not rely on this receipt: ${failed.detail}.`],
  }[verdict]();
}

function proves({ verdict, proof, receipt, cosigned, checks }) {
  if (verdict === "failed") return ["Nothing. Ask where it came from for another copy, and for the reason."];
  const sentences = [];
  if (verdict === "verified") {
    const { origin, size } = proof.checkpoint;
    sentences.push(
      `Whoever holds the log key of ${origin} has signed that exactly this event is entry ${receipt.seq} of its log, which had ${size} entries then.`,
      "Should the operator ever show a log of that name without this entry, or with another one in its place, then this receipt and that log together prove the operator wrong.",
      ...cosigned.map(
        ({ name, seconds }) =>
          `${name}, a witness that you trust, saw this state of the log at ${secondOf(seconds)}: the event was recorded by then, and the operator can show no other past to anybody who asks this witness.`,
      ),
    );
  }
  if (checks.some(({ name, result }) => name === "signature" && result === "ok")) {
    sentences.push("The operator's server accepted the event: its ingest key signed it for the log you named.");
  }
  if (sentences.length > 0) return sentences;
  return ["Only that the parts of the file fit each other. No signature in it could be checked, so anybody could have made it."];
}

function doesNotProve({ verdict, cosigned }) {
  if (verdict === "failed") return ["That somebody cheated: a file that was damaged on its way fails as well."];
  return [
    $("filled-in").hidden ? null : "That the key of the log is the right one: the server filled it in. Compare it with a copy from elsewhere.",
    verdict === "verified" ? null : "That the event is in the log: get the receipt again, once a checkpoint covers it, and verify that one.",
    "Who the visitor is: the identifier is a random one that the site gave to a browser.",
    "That the visitor understood the question. The receipt names the policy's version; its text is a document of its own, published by the ledger.",
    "What the visitor's consent is today: a later event may have changed it.",
    "That the rest of the log is sound: an audit examines a whole log.",
    verdict === "verified" && cosigned.length === 0
      ? "That the recorded time is true, and that everybody is shown the same log: without a witness both are the operator's word."
      : null,
  ].filter(Boolean);
}

function told(verdict, rows) {
  const there = rows.filter(([, value]) => value);
  return [
    el("h3", {}, verdict === "verified" ? "What was recorded" : "What the receipt says"),
    el("dl", { class: "pins" }, there.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
  ];
}

const ignored = ({ ignored: names }) => names.length > 0 && `${names.join(", ")}: members of the file that no check covers`;

function recordedAct({ verdict, event: act, receipt }) {
  return told(verdict, [
    ["Act", `${act.act}, id ${act.id}`],
    ["Recorded", `${receipt.recordedAt} (by the ledger's clock)`],
    ["Log", act.site],
    ["Actor", `${act.actor} (${act.role})`],
    ["Instruction", act.instruction],
    ["Flagged", act.flagged && `${act.flagged}: the instruction was believed unlawful`],
    ...Object.entries(act.details ?? {}),
    ["Address", act.address],
    ["Occurred", `${act.occurredAt} (by the server's clock)`],
    ["Ignored", ignored(receipt)],
  ]);
}

function recorded(report) {
  const { verdict, event, receipt } = report;
  if (verdict === "failed") return [];
  if (isAct(event)) return recordedAct(report);
  const choices = Object.entries(event.decisions ?? {}).map(([purpose, answer]) =>
    el("li", { class: answer }, el("code", {}, purpose), `${purpose === "*" ? " every optional purpose" : ""} ${answer}`),
  );
  const ended = Object.entries(event.lapsed ?? {}).map(([purpose, seq]) =>
    el("li", { class: "denied" }, el("code", {}, purpose), ` granted in entry ${seq}`),
  );
  const sentBy = AUTHENTICATIONS[event.authentication] ?? "a web page, with a publishable key";
  const scope = event.decisions || event.lapsed ? "made for every browser of the account" : "account";
  const rows = [
    ["Event", `${TYPES[event.type]}, id ${event.id}`],
    ["Recorded", `${receipt.recordedAt} (by the ledger's clock)`],
    ["Site", event.site],
    ["Visitor", event.visitor],
    ["Account", event.account && `${scope} ${event.account} (a keyed hash)`],
    ["Choices", choices.length > 0 && el("ul", { class: "chips" }, choices)],
    ["Ended", ended.length > 0 && el("ul", { class: "chips" }, ended)],
    ["Done by", event.action && `${ACTIONS[event.action]} (${event.action})`],
    ["Sent by", sentBy],
    ["Control", event.component],
    ["Policy", event.policyVersion ? `version ${event.policyVersion}` : "no published version cited"],
    ["Shown", event.shown && `the document with SHA-256 ${event.shown}`],
    ["Cited", event.citedPolicyVersion && `${event.citedPolicyVersion} (never published)`],
    ["Cited", event.citedShown && `${event.citedShown} (never published)`],
    ["Language", event.language],
    ["Region", event.region],
    ["Signal", event.gpc && "Global Privacy Control"],
    ["TCF", event.tcString],
    ["GPP", event.gppString],
    ["Wall", event.conditional && "the choice was the price of access"],
    ["Imported", event.original],
    ["Occurred", event.occurredAt && `${event.occurredAt} (by the visitor's clock)`],
    ["Sent", event.sentAt && `${event.sentAt} (by the visitor's clock)`],
    ["Ignored", ignored(receipt)],
  ];
  return told(verdict, rows);
}

function checkRow({ name, result, detail, bytes }) {
  const [state, mark, words] = MARKS[result];
  const table = bytes.map(([label, value]) => [el("dt", {}, label), el("dd", {}, el("code", { class: "hash" }, value))]);
  return el(
    "li",
    { class: state, "data-check": name },
    el("span", { class: "mark", "aria-hidden": "true" }, mark),
    el("span", {}, el("b", {}, name), " ", el("span", { class: "result" }, words), el("span", { class: "fine detail" }, detail)),
    bytes.length > 0
      ? el("details", {}, el("summary", {}, "The bytes", el("span", { class: "unseen" }, ` of ${name}`)), el("dl", { class: "bytes-shown" }, table.flat()))
      : null,
  );
}

function show(report) {
  const [verdict, reason] = headline(report);
  const list = (sentences) => sentences.map((sentence) => el("li", {}, sentence));
  $("result").dataset.verdict = report.verdict;
  $("verdict").textContent = verdict;
  $("reason").textContent = reason;
  $("recorded").replaceChildren(...recorded(report));
  $("checks").replaceChildren(...report.checks.map(checkRow));
  $("proves").replaceChildren(...list(proves(report)));
  $("does-not-prove").replaceChildren(...list(doesNotProve(report)));
  $("result").hidden = false;
  $("verdict").focus();
}

/** A verdict is of what stands in the fields; once that changes, it is of nothing. */
function forget() {
  $("result").hidden = true;
  delete $("result").dataset.verdict;
}

async function verify() {
  forget();
  if ($("receipt").value.trim() === "") {
    fault("receipt", "There is no receipt yet.");
    $("receipt").focus();
    return;
  }
  fault("receipt", null);
  const trust = await takeTrust();
  if (trust === null) return;
  $("verify").disabled = true;
  try {
    show(await verifyReceipt(new TextEncoder().encode($("receipt").value), trust));
  } finally {
    $("verify").disabled = false;
  }
}

// --- Beginning --------------------------------------------------------------------------------------------------------

function listen() {
  $("form").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    verify();
  });
  $("form").addEventListener("input", forget);
  $("receipt").addEventListener("input", fillIn);
  $("log-vkey").addEventListener("input", () => ($("filled-in").hidden = true));
  $("file").addEventListener("change", async () => {
    forget();
    await readFile($("file").files[0]);
  });
  $("clear").addEventListener("click", () => {
    forget();
    $("form").reset();
    for (const field of INPUTS) fault(field, null);
    $("filled-in").hidden = true;
    $("receipt").focus();
  });
  // Anywhere on the page: a file that is dropped beside its field would otherwise replace the page.
  addEventListener("dragover", (over) => over.dataTransfer.types.includes("Files") && over.preventDefault());
  addEventListener("drop", async (dropped) => {
    if (dropped.dataTransfer.files.length === 0) return;
    dropped.preventDefault();
    forget();
    await readFile(dropped.dataTransfer.files[0]);
  });
}

/** A receipt that another page of this server left here for this tab. */
function handedOver() {
  try {
    const left = JSON.parse(sessionStorage.getItem(HANDED_OVER));
    sessionStorage.removeItem(HANDED_OVER);
    return left;
  } catch {
    return null; // a saved page has no storage of the server's
  }
}

async function start() {
  listen();
  $("save").hidden = location.protocol === "file:";
  if (!(await hasEd25519())) {
    $("unable").textContent =
      "This browser can not verify: its WebCrypto does not know Ed25519 here. Take a current Chromium, Firefox or Safari, and open the page by https, from localhost or from a saved file. Nothing was verified.";
    $("unable").hidden = false;
    $("verify").disabled = true;
    return;
  }
  const left = handedOver();
  if (typeof left?.receipt !== "object" || left.receipt === null) return;
  $("receipt").value = JSON.stringify(left.receipt, null, 1);
  fillIn();
  await verify();
}

start();
