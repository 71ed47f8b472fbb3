// The page: a person plays the visitor, and sees what the ledger keeps and what it answers.
// What is shown is built node by node, so nothing that comes from a document or an answer is ever markup.

import { answerRows } from "./answers.js";
import { purposeRow, showNotice } from "./banner.js";
import { newEventId } from "./bytes.js";
import { entryCard } from "./cards.js";
import { Client, Refused, loadSites } from "./client.js";
import { commandBlocks } from "./commands.js";
import { el } from "./dom.js";
import * as identity from "./identity.js";
import { KINDS, Rights } from "./rights.js";

const MAX_ENTRIES = 50;
const KEYS_KEPT_MS = 30 * 24 * 3600 * 1000;
const $ = (id) => document.getElementById(id);

// --- What the page knows ----------------------------------------------------------------------------------------------

let sites = {};
let client = null;
let policy = null;
let notice = null; // what the policy says that visitors are shown; its hash is cited by every choice made before it
let visitor = "";
let rights = null; // what the visitor asked for about the data itself
let request = null; // the newest such request, as rights.js keeps it
let entries = []; // newest first: {event, receipt, sent: [text]}
let unsent = null; // an event that got no answer; it keeps its id
let decisions = {};
let language = "en";

const storageKey = () => `consent-ledger:${client.site}`;

/** The tab remembers the visitor, as a cookie of the site would; a browser that forbids it forgets on reload. */
function remember() {
  try {
    sessionStorage.setItem(storageKey(), JSON.stringify({ visitor, entries: entries.slice(0, MAX_ENTRIES), unsent, request }));
  } catch (forbidden) {
    console.info("nothing is remembered here:", forbidden.name);
  }
}

async function recall() {
  let stored = null;
  try {
    stored = JSON.parse(sessionStorage.getItem(storageKey()));
  } catch (forbidden) {
    console.info("nothing is remembered here:", forbidden.name);
  }
  visitor = stored?.visitor ?? (await identity.mint()).visitor;
  entries = stored?.entries ?? [];
  unsent = stored?.unsent ?? null;
  request = stored?.request ?? null;
}

/** Become somebody else: what was done before belongs to another visitor. */
async function begin() {
  await identity.forget(visitor);
  visitor = (await identity.mint()).visitor;
  entries = [];
  unsent = null;
  decisions = {};
  fold(false);
  remember();
  await showVisitor();
}

/** The ledger forgot this visitor, and takes nothing of it any more: as a site's page would, take a new id. */
async function forgotten() {
  await begin();
  say("You were forgotten. You are a new visitor now.");
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
    await failed(error, event);
  } finally {
    busy(false);
    remember();
    showUnsent();
    // A button that was disabled meanwhile has lost the focus; whoever uses the keyboard goes on from there.
    (focused.disabled || !focused.getClientRects().length ? $("customise") : focused).focus();
  }
}

async function failed(error, event) {
  if (!(error instanceof Refused)) throw error;
  if (!error.temporary) unsent = null;
  if (error.problem?.recorded) add(event, error.problem.recorded);
  complain(error);
  if (error.gone) await forgotten();
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
    if (answer.erased) return await forgotten();
    decisions = answer.decisions;
    showAnswers(answer);
    showBanner();
    complain(null);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error);
    const waiting = request?.kind === "erasure" && request.status.closedAt === undefined;
    if (error.gone && !waiting) await forgotten(); // who asked to be forgotten here sees it done
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
  for (const id of ["accept", "refuse", "customise", "ask", "try-again", "new-visitor", "request-act"]) $(id).disabled = is;
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

function showPolicy() {
  showNotice(notice, { site: client.site, text, language });
  const { version, effectiveAt, url } = policy.policy;
  const link = el("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, "the full policy");
  $("banner-policy").replaceChildren(`Policy version ${version}, in force since ${effectiveAt.slice(0, 10)}: `, link, ".");
  $("purpose-list").replaceChildren(...offered().map(([id, purpose]) => purposeRow(id, purpose, { text, language })));
}

function showAnswers(answer) {
  const titled = (id) => (policy.purposes[id] ? text(policy.purposes[id].title) : id);
  const rows = answerRows(answer.decisions, offered().map(([id]) => id), titled, language);
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

function showCommands() {
  const keys = sites[client.site];
  $("commands").replaceChildren(...commandBlocks(client.site, keys, visitor));
  $("log-id").textContent = keys.logId;
  $("log-vkey").textContent = keys.logVkey;
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
  await recall();
  remember();
  await showVisitor();
}

async function showVisitor() {
  $("visitor").textContent = visitor;
  rights?.close();
  const page = {
    say,
    complain,
    ask,
    act: (kind) => (kind === "objection" ? record(eventOf({ "*": "denied" }, "settings")) : chooseAnew()),
    remember: (told) => {
      request = told;
      remember();
    },
  };
  const [origin] = sites[client.site].logVkey.split("+");
  rights = new Rights(client, origin, visitor, request, page);
  await rights.open();
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

/** Open what a choice per purpose is made with, and go there. */
function chooseAnew() {
  fold(true);
  $("purposes").querySelector("input:enabled, button").focus();
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
    request = null;
    await begin();
    say("You are a new visitor now.");
  });
  for (const kind of KINDS) $(`ask-${kind}`).addEventListener("click", () => rights.make(kind));
  $("request-act").addEventListener("click", () => rights.act());
  $("request-look").addEventListener("click", () => rights.look());
  $("request-download").addEventListener("click", () => rights.download({ format: "json" }));
  $("request-page").addEventListener("click", () => rights.download({ format: "html", language }));
}

async function start() {
  try {
    sites = await loadSites();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error);
    return;
  }
  await identity.forgetOlder(Date.now() - KEYS_KEPT_MS);
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
