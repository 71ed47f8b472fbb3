// Signed notes, checkpoints, cosignatures and inclusion proofs as C2SP defines them (proto/SPEC.md, sections 11 to 13).

import { same, sha256, toHex } from "./bytes.js";
import { isAcceptable, verifies } from "./ed25519.js";
import { decodeBase64, decodeDecimal, demand, encodeUtf8 } from "./strict.js";

export const LOG_KEY = 1;
export const WITNESS_KEY = 4;

const MAX_CHECKPOINT_BYTES = 65_536;
const MAX_SIGNATURES = 100;
const MAX_HASHES = 64;
const HASH_BYTES = 32;
const PROOF_LINE = "c2sp.org/tlog-proof@v1";
const ORIGIN = /^[!-*,-~]+\/[!-*,-.0-~]+$/;
const NAME = /^[^+\p{White_Space}\p{Cc}]+$/u;
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f]/;

/** The site of an origin `<prefix>/<site>`, or null if it is none. */
export function siteOf(origin) {
  const site = origin.slice(origin.lastIndexOf("/") + 1);
  return origin.length <= 255 && ORIGIN.test(origin) && site.includes(".") ? site : null;
}

/** `name+hex(keyID)+base64(type ‖ pub)`: `{text, name, keyId, publicKey}`, its keyID recomputed and its point checked. */
export async function parseVkey(text, type) {
  const [name, hexId, ...rest] = text.split("+");
  demand(rest.length > 0 && NAME.test(name) && /^[0-9a-f]{8}$/.test(hexId), "it is no key of the form name+hex+base64");
  const key = decodeBase64(rest.join("+"), "the key's last part");
  const role = type === LOG_KEY ? "a log" : "a witness";
  demand(key.length === 33 && key[0] === type, `it is no Ed25519 key of ${role}`);
  const keyId = (await sha256(`${name}\n`, key)).slice(0, 4);
  demand(toHex(keyId) === hexId, "its short id does not belong to its name and key; it may be cut or mistyped");
  demand(isAcceptable(key.slice(1)), "its point is not a canonical one of prime order");
  return { text, name, keyId, publicKey: key.slice(1) };
}

/** `{origin, size, root, body, signatures}`; nothing is verified yet. */
function parseCheckpoint(text) {
  demand(encodeUtf8(text, "the checkpoint").length <= MAX_CHECKPOINT_BYTES, "the checkpoint is too long");
  demand(!CONTROL.test(text), "the checkpoint holds control characters");
  const gap = text.lastIndexOf("\n\n");
  const lines = text.slice(0, Math.max(gap, 0)).split("\n");
  demand(gap > 0 && lines.length === 3, "a checkpoint has three lines, an empty one, and signatures");
  const [origin, size, root] = lines;
  demand(siteOf(origin) !== null, "the checkpoint's origin is none");
  const rootHash = decodeBase64(root, "the checkpoint's root");
  demand(rootHash.length === HASH_BYTES, "a root hash has 32 bytes");
  const tail = text.slice(gap + 2);
  demand(tail.endsWith("\n"), "the last signature line does not end");
  const signatureLines = tail.slice(0, -1).split("\n");
  demand(signatureLines.length <= MAX_SIGNATURES, "the checkpoint has too many signatures");
  return {
    origin,
    size: decodeDecimal(size),
    root: rootHash,
    body: new TextEncoder().encode(`${lines.join("\n")}\n`),
    signatures: signatureLines.map(parseSignature),
  };
}

function parseSignature(line) {
  const parts = line.split(" ");
  demand(parts.length === 3 && parts[0] === "—" && NAME.test(parts[1]), "a line that is no signature");
  const data = decodeBase64(parts[2], "a signature");
  demand(data.length > 4, "a signature without its bytes");
  return { name: parts[1], keyId: data.slice(0, 4), value: data.slice(4) };
}

/** The tlog-proof text: `{index, hashes, checkpoint}`. */
export function parseProof(text) {
  encodeUtf8(text, "the proof");
  const gap = text.indexOf("\n\n");
  demand(gap > 0, "a proof has an empty line above its checkpoint");
  const [version, index, ...hashes] = text.slice(0, gap).split("\n");
  demand(version === PROOF_LINE, `a proof begins with the line ${PROOF_LINE}`);
  demand(index?.startsWith("index "), "a proof has an index line");
  demand(hashes.length <= MAX_HASHES, "the proof has too many hashes");
  const proof = {
    index: decodeDecimal(index.slice("index ".length)),
    hashes: hashes.map((line) => decodeBase64(line, "a hash of the proof")),
    checkpoint: parseCheckpoint(text.slice(gap + 2)),
  };
  demand(proof.hashes.every((hash) => hash.length === HASH_BYTES), "a hash of the proof has not 32 bytes");
  demand(proof.index < proof.checkpoint.size, "the proof's index is not below the checkpoint's size");
  return proof;
}

const linesOf = (checkpoint, vkey) =>
  checkpoint.signatures.filter(({ name, keyId }) => name === vkey.name && same(keyId, vkey.keyId));

/** Whether a log key signed; a line under its name that does not verify is refused. */
export async function signedBy(checkpoint, vkey) {
  const lines = linesOf(checkpoint, vkey);
  for (const { value } of lines) {
    demand(await verifies(vkey.publicKey, checkpoint.body, value), "a line of the log key does not verify");
  }
  return lines.length > 0;
}

/** The unix seconds, as BigInts, at which a witness cosigned; a line under its name that does not verify is refused. */
export async function cosignatureTimes(checkpoint, vkey) {
  const times = [];
  for (const { value } of linesOf(checkpoint, vkey)) {
    const seconds = value.length === 72 ? BigInt(`0x${toHex(value.slice(0, 8))}`) : 2n ** 53n;
    demand(seconds < 2n ** 53n, `${vkey.name} wrote a line that is no cosignature`);
    const head = new TextEncoder().encode(`cosignature/v1\ntime ${seconds}\n`);
    const message = new Uint8Array([...head, ...checkpoint.body]);
    demand(await verifies(vkey.publicKey, message, value.slice(8)), `the cosignature of ${vkey.name} does not verify`);
    times.push(seconds);
  }
  return times;
}

/** The steps from a leaf hash to the root (RFC 9162 section 2.1.3.2): each `{left, right, hash}`; refused if the number
 * of hashes does not suit index and size. */
export async function climb(leaf, { index, hashes, checkpoint }) {
  const steps = [];
  let [node, last, hash] = [index, checkpoint.size - 1n, leaf];
  for (const sibling of hashes) {
    demand(last !== 0n, "the proof has too many hashes");
    const onTheRight = (node & 1n) === 1n || node === last;
    const [left, right] = onTheRight ? [sibling, hash] : [hash, sibling];
    hash = await sha256(new Uint8Array([1]), left, right);
    steps.push({ left, right, hash });
    while (onTheRight && (node & 1n) === 0n && node !== 0n) [node, last] = [node >> 1n, last >> 1n];
    [node, last] = [node >> 1n, last >> 1n];
  }
  demand(last === 0n, "the proof has too few hashes");
  demand(same(hash, checkpoint.root), "the proof leads to another root");
  return steps;
}
