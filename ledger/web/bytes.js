// The bytes of the ledger (proto/SPEC.md): what a browser needs to check an entry and its opening by itself.
// No network and no document here.

const FIELDS = [
  ["version", 0, 1],
  ["seq", 1, 9],
  ["time", 9, 17],
  ["prev", 17, 49],
  ["kind", 49, 50],
  ["commit", 50, 82],
  ["signer", 82, 114],
  ["signature", 114, 178],
  ["n", 178, 180],
];
const HEAD_BYTES = 180;

export const canHash = () => Boolean(globalThis.crypto?.subtle);

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const same = (a, b) => toHex(a) === toHex(b);

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer()));
}

/** H(0x00 ‖ entry) */
export const leafHash = (entry) => sha256(new Uint8Array([0]), entry);

/** H("consent-ledger/v1 commit\n" ‖ salt ‖ payload) */
export const commitment = (salt, payload) => sha256("consent-ledger/v1 commit\n", salt, payload);

/** The fields of an entry as byte strings, with their offsets; throws on what is no entry of version 1. */
export function parseEntry(bytes) {
  const length = bytes[178] * 256 + bytes[179];
  if (bytes.length < HEAD_BYTES || bytes[0] !== 1 || bytes.length !== HEAD_BYTES + length) {
    throw new Error("these are not the bytes of an entry");
  }
  const fields = FIELDS.map(([name, start, end]) => ({ name, start, bytes: bytes.slice(start, end) }));
  return [...fields, { name: "public", start: HEAD_BYTES, bytes: bytes.slice(HEAD_BYTES) }];
}

/** A UUID of version 7 (RFC 9562): milliseconds, then random bits. */
export function newEventId(now) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 0; i < 6; i += 1) bytes[i] = Math.floor(now / 256 ** (5 - i)) % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return toHex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * What this browser finds out about a receipt: each check with its hash, and whether it holds.
 * `leaves` maps seqs to leaf hashes that were computed here before; `holds` is null where it cannot be told.
 */
export async function checkReceipt(receipt, leaves) {
  const entry = fromBase64(receipt.entry);
  const fields = Object.fromEntries(parseEntry(entry).map((field) => [field.name, field.bytes]));
  const leaf = await leafHash(entry);
  const commit = await commitment(fromBase64(receipt.salt), fromBase64(receipt.payload));
  const before = leaves.get(receipt.seq - 1);
  return {
    leaf,
    signature: fields.signature,
    checks: [
      {
        name: "Leaf hash",
        hash: leaf,
        holds: same(leaf, fromBase64(receipt.leafHash)) && Number(`0x${toHex(fields.seq)}`) === receipt.seq,
        says: "SHA-256 over the entry, computed here, is the receipt's",
      },
      {
        name: "Commitment",
        hash: commit,
        holds: same(commit, fields.commit),
        says: "salt and payload, hashed here, are what the entry commits to",
      },
      {
        name: "Previous",
        hash: fields.prev,
        holds: before === undefined ? null : same(before, fields.prev),
        says:
          before === undefined
            ? `names entry ${receipt.seq - 1}, which was not made on this page`
            : `is the leaf hash of entry ${receipt.seq - 1}, computed here`,
      },
    ],
  };
}
