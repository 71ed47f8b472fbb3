// The page: a person plays the visitor, and sees what the ledger keeps and what it answers.
// What is shown is built node by node, so nothing that comes from a document or an answer is ever markup.

import { newEventId, newVisitor } from "./bytes.js";
import { entryCard } from "./cards.js";
import { Client, Refused, loadSites } from "./client.js";
import { el } from "./dom.js";

const MAX_ENTRIES = 50;
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
  suppressed: "This visitor is on the suppression list.",
  conflict: "You agreed elsewhere on your account, but said no in this browser, so you have to be asked.",
  withdrawal_barred: "You took your consent back, but this one cannot be withdrawn yet.",
  age_unconfirmed: "Your age has to be confirmed first, or a guardian has to agree.",
  no_policy: "The site has no policy in force.",
  unknown_purpose: "The policy has no such purpose.",
};
const $ = (id) => document.getElementById(id);

// --- What the page knows ----------------------------------------------------------------------------------------------

let sites = {};
let client = null;
let policy = null;
let notice = null; // what the policy says that visitors are shown; its hash is cited by every choice made before it
let visitor = "";
let entries = []; // newest first: {event, receipt, sent: [text]}
let unsent = null; // an event that got no answer; it keeps its id
let decisions = {};
let language = "en";

const storageKey = () => `consent-ledger:${client.site}`;

/** The tab remembers the visitor, as a cookie of the site would; a browser that forbids it forgets on reload. */
function remember() {
  try {
    sessionStorage.setItem(storageKey(), JSON.stringify({ visitor, entries: entries.slice(0, MAX_ENTRIES), unsent }));
  } catch (forbidden) {
    console.info("nothing is remembered here:", forbidden.name);
  }
}

function recall() {
  let stored = null;
  try {
    stored = JSON.parse(sessionStorage.getItem(storageKey()));
  } catch (forbidden) {
    console.info("nothing is remembered here:", forbidden.name);
  }
  visitor = stored?.visitor ?? newVisitor();
  entries = stored?.entries ?? [];
  unsent = stored?.unsent ?? null;
}

/** The purposes on offer, required ones first (the document has them by id). */
const offered = () =>
  Object.entries(policy.purposes)
    .filter(([, purpose]) => !purpose.removedIn)
    .sort(([, a], [, b]) => Number(Boolean(b.required)) - Number(Boolean(a.required)));
const optional = () => offered().filter(([, purpose]) => !purpose.required);
const isGranted = (purpose) => decisions[purpose]?.reason === "granted";
const text = (texts) => texts?.[language] ?? Object.values(texts ?? {})[0] ?? "";

/** The site's language that suits this browser, else English, else the site's first. */
function chooseLanguage(languages) {
  const wanted = [...navigator.languages.map((tag) => tag.split("-")[0]), "en"];
  return wanted.find((tag) => languages.includes(tag)) ?? languages[0];
}

// --- Acts -------------------------------------------------------------------------------------------------------------

/** The event of a choice: purposes and answers, and what the visitor did. */
function eventOf(choice, action) {
  const answers = Object.values(choice);
  const taken = optional().some(([purpose]) => isGranted(purpose));
  const refusal = taken ? "consent.withdrawn" : "consent.refused";
  const now = Date.now();
  return {
    id: newEventId(now),
    type: answers.includes("granted") ? "consent.given" : refusal,
    visitor,
    decisions: choice,
    action,
    policyVersion: policy.policy.version,
    language,
    ...(notice ? { shown: policy.notices.banner.document } : {}),
    ...($("gpc").checked ? { gpc: true } : {}),
    occurredAt: new Date(now).toISOString(),
  };
}

const all = (answer) => Object.fromEntries(optional().map(([purpose]) => [purpose, answer]));

async function record(event) {
  const focused = document.activeElement;
  unsent = event;
  busy(true);
  try {
    const { receipt } = await client.record(event);
    unsent = null;
    add(event, receipt);
    say(`Entry ${receipt.seq} is in the log.`);
    await ask(receipt.position);
  } catch (error) {
    failed(error, event);
  } finally {
    busy(false);
    remember();
    showUnsent();
    // A button that was disabled meanwhile has lost the focus; whoever uses the keyboard goes on from there.
    (focused.disabled || !focused.getClientRects().length ? $("customise") : focused).focus();
  }
}

function failed(error, event) {
  if (!(error instanceof Refused)) throw error;
  if (!error.temporary) unsent = null;
  if (error.problem?.recorded) add(event, error.problem.recorded);
  complain(error);
}

function add(event, receipt) {
  entries = [{ event, receipt, sent: [] }, ...entries.filter((entry) => entry.receipt.seq !== receipt.seq)];
  remember();
  showEntries();
}

/** Send an event that is in the log already, as a browser does that never saw the answer. */
async function sendAgain(entry) {
  try {
    const { receipt, status, replayed } = await client.record(entry.event);
    const identical = JSON.stringify(receipt) === JSON.stringify(entry.receipt);
    const told = replayed && identical ? "the very same receipt; nothing was added" : "another receipt";
    entry.sent = [`Sent again: answered ${status}, ${replayed ? "replayed, " : ""}${told}.`, ...entry.sent].slice(0, 3);
    complain(null);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    entry.sent = [`Sent again: ${error.message}`, ...entry.sent].slice(0, 3);
  }
  say(entry.sent[0]);
  remember();
  await showEntries();
  $("entries").querySelector(`[data-seq="${entry.receipt.seq}"] .again`)?.focus();
}

/** The receipt with its proof: the same event again, answered once a checkpoint covers it; null if that went wrong. */
async function proven(entry) {
  if (entry.receipt.proof) return entry.receipt;
  say("Waiting for a checkpoint that covers the entry.");
  try {
    const { receipt } = await client.record(entry.event, { proven: true });
    complain(null);
    return receipt;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error);
    return null;
  }
}

/** Hand a receipt to the page that verifies it. It stays in this tab: nothing is sent with it. */
async function verify(entry) {
  const receipt = await proven(entry);
  if (receipt === null) return;
  try {
    sessionStorage.setItem("consent-ledger:receipt", JSON.stringify({ receipt }));
  } catch (forbidden) {
    console.info("nothing can be handed over here:", forbidden.name);
  }
  location.assign("/verify");
}

/** A receipt is the visitor's to keep. */
async function save(entry) {
  const receipt = await proven(entry);
  if (receipt === null) return;
  const url = URL.createObjectURL(new Blob([`${JSON.stringify(receipt, null, 1)}\n`], { type: "application/json" }));
  el("a", { href: url, download: `receipt-${receipt.id}.json` }).click();
  URL.revokeObjectURL(url);
  say(`The receipt of entry ${receipt.seq} was saved.`);
}

/** What analytics would be told. */
async function ask(position) {
  try {
    const answer = await client.consent(visitor, { position, gpc: $("gpc").checked });
    decisions = answer.decisions;
    showAnswers(answer);
    showBanner();
    complain(null);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error);
  }
}

// --- What is shown ----------------------------------------------------------------------------------------------------

function say(words) {
  $("news").textContent = words;
}

function complain(error) {
  $("trouble").hidden = error === null;
  const where = error?.problem?.pointer ? ` (at ${error.problem.pointer})` : "";
  const title = error?.problem ? `${error.problem.title}: ` : "";
  $("trouble").textContent = error === null ? "" : `${title}${error.message}${where}`;
}

function busy(is) {
  for (const id of ["accept", "refuse", "customise", "ask", "try-again", "new-visitor"]) $(id).disabled = is;
  $("withdraw").disabled = is || !optional().some(([purpose]) => isGranted(purpose));
}

function showUnsent() {
  $("unsent").hidden = unsent === null;
  if (unsent) $("unsent-text").textContent = `The event ${unsent.id} got no answer. It keeps its id, so trying again can not record it twice.`;
}

function showBanner() {
  const asked = optional().some(([purpose]) => decisions[purpose]?.ask);
  const chosen = entries.length > 0;
  $("banner-status").textContent =
    asked || !chosen
      ? `${policy.controller.name} would like your consent. Refusing is as easy as accepting, and you may change your mind.`
      : "Your choice is recorded, and the ledger says not to ask you again. You may change it whenever you like.";
  $("withdraw").disabled = !optional().some(([purpose]) => isGranted(purpose));
  for (const [purpose] of optional()) {
    const box = document.getElementById(`purpose-${purpose}`);
    if (box && !$("purposes").contains(document.activeElement)) box.checked = isGranted(purpose);
  }
}

/** The words that the policy's notice has on record: what is cited is what stands here. */
function showNotice() {
  const said = text(notice?.texts) || { title: `Cookies on ${client.site}`, body: [], labels: {} };
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

function showPolicy() {
  showNotice();
  const { version, effectiveAt, url } = policy.policy;
  const link = el("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, "the full policy");
  $("banner-policy").replaceChildren(`Policy version ${version}, in force since ${effectiveAt.slice(0, 10)}: `, link, ".");
  $("purpose-list").replaceChildren(...offered().map(([id, purpose]) => purposeRow(id, purpose)));
}

function purposeRow(id, purpose) {
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

function showAnswers(answer) {
  const order = [...offered().map(([id]) => id), ...Object.keys(answer.decisions)];
  const asked = [...new Set(order)].filter((id) => id in answer.decisions);
  const rows = asked.map((id) => {
    const told = answer.decisions[id];
    const more = [
      told.status,
      told.regime,
      told.validUntil ? `until ${told.validUntil.slice(0, 10)}` : null,
      told.seq === undefined ? null : `by entry ${told.seq}`,
      told.ask ? "ask the visitor" : null,
    ];
    const purpose = policy.purposes[id];
    return el(
      "tr",
      { "data-purpose": id },
      el("th", { scope: "row" }, el("span", { lang: language }, purpose ? text(purpose.title) : id), el("code", {}, id)),
      el("td", {}, el("strong", { class: told.decision }, told.decision)),
      el(
        "td",
        {},
        el("span", {}, REASONS[told.reason] ?? told.reason),
        el("span", { class: "fine" }, [told.reason, ...more].filter(Boolean).join(" · ")),
      ),
    );
  });
  $("answers").replaceChildren(...rows);
  $("position").textContent = `As of ${answer.position}`;
}

async function showEntries() {
  $("empty").hidden = entries.length > 0;
  const leaves = new Map();
  const cards = [];
  for (const entry of [...entries].reverse()) cards.unshift(await entryCard(entry, leaves, { again: sendAgain, verify, save }));
  const open = new Set(Array.from($("entries").querySelectorAll("details[open]"), (details) => details.dataset.key));
  $("entries").replaceChildren(...cards);
  for (const details of $("entries").querySelectorAll("details")) details.open = open.has(details.dataset.key);
}

// --- Commands to copy -------------------------------------------------------------------------------------------------

function showCommands() {
  const { publishable, logId, logVkey } = sites[client.site];
  const base = `${location.origin}/v1/sites/${client.site}`;
  const key = `-H 'Authorization: Bearer ${publishable}'`;
  const refusal = { type: "consent.refused", visitor, decisions: { "*": "denied" }, action: "api" };
  const commands = [
    ["Say no to everything", [`curl -s ${base}/events`, key, "-H 'Content-Type: application/json'", `-d '${JSON.stringify(refusal)}'`]],
    ["Ask as analytics does", [`curl -s ${base}/consent`, key, `-H 'Consent-Visitor: ${visitor}'`]],
    [
      "Export the log and audit it offline",
      [`consent-ledger export ${client.site} bundle &&`, "consent-ledger verify bundle", `--log-vkey '${logVkey}'`, `--log-id ${logId}`],
    ],
  ];
  $("commands").replaceChildren(...commands.map(([title, parts]) => commandBlock(title, parts.join(" \\\n  "))));
  $("log-id").textContent = logId;
  $("log-vkey").textContent = logVkey;
}

function commandBlock(title, command) {
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

// --- Beginning --------------------------------------------------------------------------------------------------------

async function openSite(site) {
  client = new Client(site, sites[site].publishable);
  decisions = {};
  $("answers").replaceChildren();
  $("position").textContent = "";
  fold(false);
  try {
    policy = await client.policy();
    const named = policy.notices?.banner;
    notice = named?.mediaType === "application/json" ? await client.document(named.document) : null;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error);
    return;
  }
  language = chooseLanguage(policy.languages);
  recall();
  remember();
  await showVisitor();
}

async function showVisitor() {
  $("visitor").textContent = visitor;
  showPolicy();
  showCommands();
  showUnsent();
  await showEntries();
  await ask();
  showBanner();
  busy(false);
}

function fold(open) {
  $("purposes").hidden = !open;
  $("customise").setAttribute("aria-expanded", String(open));
}

function listen() {
  $("site").addEventListener("change", () => openSite($("site").value));
  $("accept").addEventListener("click", () => record(eventOf(all("granted"), "accept_all")));
  $("refuse").addEventListener("click", () => record(eventOf(all("denied"), "only_necessary")));
  $("withdraw").addEventListener("click", () => record(eventOf({ "*": "denied" }, "withdraw")));
  $("customise").addEventListener("click", () => fold($("purposes").hidden));
  $("purposes").addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const chosen = ([id]) => [id, document.getElementById(`purpose-${id}`).checked ? "granted" : "denied"];
    const action = entries.length > 0 ? "settings" : "customize";
    const choice = Object.fromEntries(optional().map(chosen));
    fold(false);
    await record(eventOf(choice, action));
  });
  $("try-again").addEventListener("click", () => record(unsent));
  $("ask").addEventListener("click", () => ask());
  $("gpc").addEventListener("change", () => ask());
  $("new-visitor").addEventListener("click", async () => {
    visitor = newVisitor();
    entries = [];
    unsent = null;
    decisions = {};
    fold(false);
    remember();
    await showVisitor();
    say("You are a new visitor now.");
  });
}

async function start() {
  try {
    sites = await loadSites();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error);
    return;
  }
  const names = Object.keys(sites);
  if (names.length === 0) {
    complain(new Refused({ title: "No website", detail: "This ledger has no site yet; add one and reload the page." }));
    return;
  }
  $("site").replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  const asked = decodeURIComponent(location.hash.slice(1));
  $("site").value = names.includes(asked) ? asked : names[0];
  $("site").disabled = false;
  listen();
  await openSite($("site").value);
}

start();
