// A receipt verified in the browser: the checks of proto/SPEC.md, section 16, in their order and under their names.
// No network and no document here; nothing is taken on trust but the keys that the reader brings.

import { commitment, leafHash, parseEntry, same, sha256, toHex } from "./bytes.js";
import { verifies } from "./ed25519.js";
import { climb, cosignatureTimes, parseProof, signedBy, siteOf } from "./note.js";
import { decodeEvent } from "./payload.js";
import { Unsound, decodeBase64, decodeUtf8, demand, encodeBase64, readObject } from "./strict.js";

const MAX_RECEIPT_BYTES = 524_288;
const MAX_DEPTH = 8;
const EVENT = 1;
const SLACK_MS = 60_000n;
const TEXTS = ["id", "site", "recordedAt", "leafHash", "entry", "salt", "payload", "position"];
const OPTIONAL = new Set(["signature", "witnesses", "time"]);

/** What is lacking for a check. */
class NotChecked extends Error {}

const unsigned = (bytes) => BigInt(`0x${toHex(bytes)}`);

/** The message from a file's bytes, its base64 decoded and `seq` a BigInt; `ignored` names members without a check. */
function parseReceipt(data) {
  demand(data.length <= MAX_RECEIPT_BYTES, "the file is too long for a receipt");
  const { members, texts } = readObject(decodeUtf8(data, "the receipt"), MAX_DEPTH, "the receipt");
  for (const name of TEXTS) {
    demand(texts.has(name) && typeof members[name] === "string", `the receipt's member ${name} is missing or is no text`);
  }
  demand(/^-?(?:0|[1-9][0-9]*)$/.test(texts.get("seq") ?? ""), "the receipt's member seq is missing or is no integer");
  const hasProof = texts.has("proof");
  demand(!hasProof || (typeof members.proof === "string" && members.proof !== ""), "the receipt's proof is no text");
  const bytesOf = (name) => decodeBase64(members[name], `the receipt's member ${name}`);
  return {
    id: members.id,
    site: members.site,
    seq: BigInt(texts.get("seq")),
    recordedAt: members.recordedAt,
    leafHash: bytesOf("leafHash"),
    entry: bytesOf("entry"),
    salt: bytesOf("salt"),
    payload: bytesOf("payload"),
    position: members.position,
    proof: hasProof ? members.proof : null,
    ignored: [...texts.keys()].filter((name) => !TEXTS.includes(name) && name !== "seq" && name !== "proof"),
  };
}

function decodeEntry(bytes) {
  demand(bytes.length >= 180 && bytes.length <= 65_535, `an entry has 180 to 65,535 bytes, this one ${bytes.length}`);
  demand(bytes[0] === 1, "the entry is not of version 1");
  demand(bytes[178] * 256 + bytes[179] === bytes.length - 180, "the entry has another length than it says");
  const fields = Object.fromEntries(parseEntry(bytes).map((field) => [field.name, field.bytes]));
  const [seq, ms] = [unsigned(fields.seq), unsigned(fields.time)];
  demand(seq < 2n ** 53n && ms < 2n ** 53n, "the entry's seq or time is not below 2^53");
  demand(fields.kind[0] === EVENT && fields.public.length === 0, "the entry is not one of an event");
  return { ...fields, seq, ms };
}

/** A time in the one encoding, or null beyond the year 9999. */
export function timeOf(ms) {
  const text = ms < 8_640_000_000_000_000n ? new Date(Number(ms)).toISOString() : "";
  return text.length === 24 ? text : null;
}

export const secondOf = (seconds) => timeOf(seconds * 1000n) ?? `${seconds} s after 1970`;

/** What an ingest key signs: free of position and time. */
const coreOf = (entry, logId) =>
  new Uint8Array([
    ...new TextEncoder().encode("consent-ledger/v1 entry\n"),
    ...logId,
    ...entry.kind,
    ...entry.commit,
    ...entry.n,
    ...entry.public,
  ]);

/**
 * Every check of a receipt's bytes, whatever they hold: `{verdict, checks, receipt, entry, event, proof, cosigned}`.
 *
 * `trust`: `logVkeys` and `witnesses` (all demanded) as `parseVkey` gives them; `logId` and `ingest` as bytes or null.
 * A check is `{name, result, detail, bytes}`; `bytes` are `[label, text]` pairs of what it was computed from.
 */
export async function verifyReceipt(data, { logVkeys, witnesses = [], logId = null, ingest = null }) {
  const checks = [];
  const found = { receipt: null, entry: null, event: null, proof: null, cosigned: [] };

  async function run(name, needs, step) {
    const lacking = checks.find((check) => needs.includes(check.name) && check.result !== "ok");
    const bytes = [];
    let [result, detail] = ["ok", ""];
    try {
      if (lacking) throw new NotChecked(`because the check '${lacking.name}' ${lacking.result === "failed" ? "failed" : "was not checked"}`);
      detail = await step((label, value) => bytes.push([label, typeof value === "string" ? value : toHex(value)]));
    } catch (error) {
      result = error instanceof NotChecked ? "not checked" : "failed";
      detail = error instanceof NotChecked || error instanceof Unsound ? error.message : `the browser could not do it: ${error}`;
    }
    checks.push({ name, result, detail, bytes });
  }

  await run("receipt", [], () => {
    found.receipt = parseReceipt(data);
    return "the file is a receipt, and every member has its one form";
  });

  await run("entry", ["receipt"], (show) => {
    show("entry", found.receipt.entry);
    found.entry = decodeEntry(found.receipt.entry);
    return `${found.receipt.entry.length} bytes are an entry of version 1, of the kind 'event'`;
  });

  await run("position", ["entry"], async (show) => {
    const { receipt, entry } = found;
    const leaf = await leafHash(receipt.entry);
    show("H(0x00 ‖ entry)", leaf);
    show("leafHash", receipt.leafHash);
    demand(receipt.seq === entry.seq, `the receipt says seq ${receipt.seq}, its entry ${entry.seq}`);
    demand(receipt.recordedAt === timeOf(entry.ms), "the entry was recorded at another time than the receipt says");
    demand(same(receipt.leafHash, leaf), "the leaf hash is not that of the entry");
    demand(receipt.position === `${receipt.site}:${entry.seq}`, "the position is not <site>:<seq>");
    return `seq ${entry.seq}, time, leaf hash and position are those of the entry`;
  });

  await run("commitment", ["entry"], async (show) => {
    const { receipt, entry } = found;
    demand(receipt.salt.length === 32, `a salt has 32 bytes, this one ${receipt.salt.length}`);
    const commit = await commitment(receipt.salt, receipt.payload);
    show("salt", receipt.salt);
    show("H(label ‖ salt ‖ payload)", commit);
    show("the entry's commitment", entry.commit);
    demand(same(commit, entry.commit), "salt and payload are not what the entry commits to: the payload was changed or exchanged");
    return "the entry commits to exactly this payload";
  });

  await run("payload", ["receipt"], (show) => {
    const { receipt } = found;
    show("payload", new TextDecoder().decode(receipt.payload));
    const event = decodeEvent(receipt.payload);
    demand(event.id === receipt.id, "the payload is of an event with another id");
    demand(event.site === receipt.site, "the payload is of another site");
    found.event = event;
    return "the payload is an event in its one encoding, with the receipt's id and site";
  });

  await run("log", ["receipt"], () => {
    const ours = logVkeys.find((vkey) => siteOf(vkey.name) === found.receipt.site);
    demand(ours, "no log key brought along is of this site's log");
    return `the log key brought along is that of ${ours.name}`;
  });

  await run("signature", ["entry"], async (show) => {
    if (logId === null || ingest === null) throw new NotChecked("it needs the log id and the ingest key, and they were not both given");
    const { entry } = found;
    const core = coreOf(entry, logId);
    show("core", core);
    show("signature", entry.signature);
    demand(same(entry.signer, await sha256(ingest)), "the entry names another signer than the ingest key brought along");
    demand(await verifies(ingest, core, entry.signature), "the ingest key did not make the entry's signature");
    return "the ingest key signed this entry for the log with this id";
  });

  await run("proof", ["receipt"], (show) => {
    const { receipt } = found;
    if (receipt.proof === null) throw new NotChecked("there is no proof in the receipt");
    show("proof", receipt.proof);
    const proof = parseProof(receipt.proof);
    demand(proof.index === receipt.seq, `the proof is of entry ${proof.index}, the receipt of entry ${receipt.seq}`);
    found.proof = proof;
    return `the proof is of entry ${proof.index}, under a checkpoint over ${proof.checkpoint.size} entries`;
  });

  await run("checkpoint", ["log", "proof"], async (show) => {
    const { checkpoint } = found.proof;
    show("signed text", new TextDecoder().decode(checkpoint.body));
    demand(siteOf(checkpoint.origin) === found.receipt.site, "the checkpoint is of another site's log");
    const ours = logVkeys.filter((vkey) => vkey.name === checkpoint.origin);
    demand(ours.length > 0, `the checkpoint is of ${checkpoint.origin}, and no key brought along is of that log`);
    let signed = false;
    for (const vkey of ours) {
      const mine = await signedBy(checkpoint, vkey); // of every key: a bad line beside a good one fails too
      signed = signed || mine;
    }
    demand(signed, "the log key brought along did not sign the checkpoint");
    return `the log key signed the checkpoint of ${checkpoint.origin} at size ${checkpoint.size}`;
  });

  await run("inclusion", ["entry", "proof"], async (show) => {
    const leaf = await leafHash(found.receipt.entry);
    show("leaf", leaf);
    const steps = await climb(leaf, found.proof);
    for (const { left, right, hash } of steps) show(`H(0x01 ‖ ${toHex(left)} ‖ ${toHex(right)})`, hash);
    show("root", found.proof.checkpoint.root);
    return `${steps.length} hashes lead from the entry to the root ${encodeBase64(found.proof.checkpoint.root)}`;
  });

  await run("witnesses", ["proof"], async (show) => {
    if (witnesses.length === 0) throw new NotChecked("no witness was given, so nobody but the operator vouches for the checkpoint");
    let bad = null;
    for (const vkey of witnesses) {
      try {
        const times = await cosignatureTimes(found.proof.checkpoint, vkey);
        if (times.length > 0) found.cosigned.push({ name: vkey.name, text: vkey.text, seconds: times.reduce((a, b) => (a < b ? a : b)) });
      } catch (error) {
        bad ??= error;
      }
    }
    if (bad !== null) throw bad;
    for (const { name, seconds } of found.cosigned) show(name, secondOf(seconds));
    const missing = witnesses.filter((vkey) => !found.cosigned.some(({ text }) => text === vkey.text));
    demand(missing.length === 0, `no cosignature of ${missing.map((vkey) => vkey.name).join(", ")}`);
    return `${witnesses.length} of ${witnesses.length} witnesses cosigned the checkpoint`;
  });

  await run("time", ["entry"], () => {
    const { cosigned, entry } = found;
    if (cosigned.length === 0) throw new NotChecked("the recorded time is the operator's word: no witness bounds it");
    const earliest = cosigned.reduce((a, b) => (a.seconds <= b.seconds ? a : b));
    demand(entry.ms <= earliest.seconds * 1000n + SLACK_MS, `the entry's time lies more than 60 s after ${earliest.name} cosigned it`);
    return `the entry existed when ${earliest.name} cosigned, at ${secondOf(earliest.seconds)}`;
  });

  return { verdict: verdictOf(checks), checks, ...found };
}

function verdictOf(checks) {
  const result = new Map(checks.map((check) => [check.name, check.result]));
  if (checks.some((check) => check.result === "failed")) return "failed";
  if (checks.every(({ name, result: ended }) => OPTIONAL.has(name) || ended === "ok")) return "verified";
  return result.get("signature") === "ok" ? "accepted" : "unproven";
}

