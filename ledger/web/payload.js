// The payload of an event (proto/SPEC.md, sections 6 and 7): its one encoding and the form of every member.

import { decodeCanonical, demand } from "./strict.js";

const WORDS = /^(?:accept_all|only_necessary|customize|settings|withdraw|dismiss|gpc|api|import|guardian)$/;
const HASH = /^[0-9a-f]{64}$/;
const TIME = /^([0-9]{4})-([0-9]{2})-([0-9]{2})T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z$/;
const PURPOSE = /^(?:\*|[A-Za-z0-9][A-Za-z0-9_.:-]{0,63})$/;
const SIGNAL = /^[A-Za-z0-9_.~+/=-]{1,4096}$/;
const MAX_PURPOSES = 64;

const CHOICE = { needs: ["action", "decisions"], may: ["account"] };
const LINK = { needs: ["account"], may: [] };
const OWN = { needs: ["lapsed"], may: ["account"] };
/** Of the members that belong to types, what each of them needs and what else it may have. */
const OF_TYPE = new Map([
  ["consent.given", CHOICE],
  ["consent.refused", CHOICE],
  ["consent.withdrawn", CHOICE],
  ["consent.dismissed", { needs: ["action"], may: [] }],
  ["notice.seen", { needs: [], may: [] }],
  ["account.linked", LINK],
  ["account.unlinked", LINK],
  ["consent.expired", OWN],
  ["consent.invalidated", OWN],
]);
const TYPED = ["account", "action", "decisions", "lapsed"];

const matches = (pattern) => (value) => typeof value === "string" && pattern.test(value);

export function isTime(value) {
  const parts = typeof value === "string" ? value.match(TIME) : null;
  if (parts === null) return false;
  const [year, month, day] = parts.slice(1).map(Number);
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  const days = [31, leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
  return year > 0 && month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1];
}

const byPurpose = (fits) => (value) => {
  if (typeof value !== "object" || Array.isArray(value)) return false;
  const entries = Object.entries(value);
  const fit = ([purpose, held]) => PURPOSE.test(purpose) && fits(held);
  return entries.length >= 1 && entries.length <= MAX_PURPOSES && entries.every(fit);
};
const isText = (most) => (value) => typeof value === "string" && Array.from(value).length <= most;
const isTrue = (value) => value === true;

const FORM = new Map([
  ["account", matches(/^[0-9a-f]{32}$/)],
  ["action", matches(WORDS)],
  ["authentication", matches(/^(?:secret|ledger)$/)],
  ["citedPolicyVersion", isText(64)],
  ["citedShown", matches(HASH)],
  ["component", matches(WORDS)],
  ["conditional", isTrue],
  ["decisions", byPurpose((answer) => answer === "granted" || answer === "denied")],
  ["gpc", isTrue],
  ["gppString", matches(SIGNAL)],
  ["id", matches(/^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)],
  ["language", matches(/^[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,7}$/)],
  ["lapsed", byPurpose((seq) => Number.isSafeInteger(seq) && seq >= 1)],
  ["occurredAt", isTime],
  ["original", isText(8192)],
  ["policyVersion", matches(/^[0-9A-Za-z.-]{1,32}$/)],
  ["region", matches(/^[A-Z]{2}(?:-[A-Z0-9]{1,3})?$/)],
  ["sentAt", isTime],
  ["shown", matches(HASH)],
  ["site", (value) => typeof value === "string"],
  ["tcString", matches(SIGNAL)],
  ["type", (value) => OF_TYPE.has(value)],
  ["visitor", matches(/^[A-Za-z0-9_-]{22,64}$/)],
]);
const NEEDED = ["id", "site", "type", "visitor"];

const isLine = (most) => (value) => isText(most)(value) && /^[^\x00-\x1f\x7f]+$/.test(value);
const isDetails = (value) => {
  if (typeof value !== "object" || Array.isArray(value)) return false;
  const entries = Object.entries(value);
  const fit = ([name, text]) => /^[a-z][A-Za-z0-9]{0,31}$/.test(name) && isLine(4096)(text);
  return entries.length >= 1 && entries.length <= 16 && entries.every(fit);
};
const ADMIN_SUFFIX = ".admin-log";
const ACTS = new Set([
  "site.added",
  "site.closed",
  "key.created",
  "key.revoked",
  "key.introduced",
  "key.retired",
  "key.rotated",
  "master.rotated",
  "policy.published",
  "document.uploaded",
  "cookies.reviewed",
  "erasure.ordered",
  "erasure.executed",
  "erasure.lifted",
  "erasure.confirmed",
  "held.opened",
  "held.released",
  "retention.run",
  "request.registered",
  "request.forwarded",
  "request.extended",
  "request.instructed",
  "request.answered",
  "export.made",
  "export.downloaded",
  "backup.made",
  "backup.restored",
  "log.recovered",
]);
const ACT_FORM = new Map([
  ["act", (value) => ACTS.has(value)],
  ["actor", isLine(128)],
  ["address", matches(/^[0-9a-f.:]{2,45}$/)],
  ["details", isDetails],
  ["flagged", matches(/^(?:infringes_law|infringes_rights|no_legal_basis|exceeds_contract|unclear)$/)],
  ["id", FORM.get("id")],
  ["instruction", isLine(512)],
  ["occurredAt", isTime],
  ["role", matches(/^(?:operator|controller|api_key|visitor|ledger)$/)],
  ["site", FORM.get("site")],
  ["type", (value) => value === "admin.act"],
]);
const ACT_NEEDED = ["act", "actor", "id", "occurredAt", "role", "site", "type"];

export const isAct = (event) => event.type === "admin.act";

/** An administrative act, which every event of an administrative log is (section 7.1). */
function checkAct(act) {
  for (const [name, value] of Object.entries(act)) {
    demand(ACT_FORM.get(name)?.(value), `the payload's member ${JSON.stringify(name)} has not the form of an act's`);
  }
  demand(ACT_NEEDED.every((name) => Object.hasOwn(act, name)), "the payload lacks a member that every act has");
  return act;
}

/** The event that these bytes are. */
export function decodeEvent(bytes) {
  const event = decodeCanonical(bytes, "the payload");
  if (typeof event.site === "string" && event.site.endsWith(ADMIN_SUFFIX)) return checkAct(event);
  for (const [name, value] of Object.entries(event)) {
    demand(FORM.get(name)?.(value), `the payload's member ${JSON.stringify(name)} has not the form of an event's`);
  }
  const has = (name) => Object.hasOwn(event, name);
  demand(NEEDED.every(has), "the payload lacks a member that every event has");
  const { needs, may } = OF_TYPE.get(event.type);
  const fits = TYPED.every((name) => (has(name) ? needs.includes(name) || may.includes(name) : !needs.includes(name)));
  demand(fits, `the payload has not the members of a ${event.type}`);
  demand((event.authentication === "ledger") === (OF_TYPE.get(event.type) === OWN), "the payload's authentication is not its type's");
  return event;
}
