// Reading what strangers wrote, in one form only (proto/SPEC.md, sections 1, 6 and 16): base64, UTF-8, JSON, decimals.
// The browser's own parsers take more than they should; what they let pass is refused here.

/** Input that is not what it claims to be. The message is for people. */
export class Unsound extends Error {}

export function demand(holds, reason) {
  if (!holds) throw new Unsound(reason);
}

// Padding and the bits that it leaves over are part of the pattern: one byte string, one text.
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$/;

export function decodeBase64(text, what = "this") {
  demand(BASE64.test(text), `${what} is not canonical base64`);
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function encodeBase64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** A number from 0 to 2^53 - 1 as a BigInt. */
export function decodeDecimal(text) {
  demand(/^(?:0|[1-9][0-9]{0,15})$/.test(text) && BigInt(text) < 2n ** 53n, "a number that is no canonical decimal");
  return BigInt(text);
}

export function decodeUtf8(bytes, what) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new Unsound(`${what} is not UTF-8`, { cause });
  }
}

/** The bytes of a text; one with half a surrogate pair has none. */
export function encodeUtf8(text, what) {
  demand(!/\p{Surrogate}/u.test(text), `${what} holds what no UTF-8 text can`);
  return new TextEncoder().encode(text);
}

function parseJson(text, what) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Unsound(`${what} is not JSON`, { cause });
  }
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

// --- JSON in any formatting -------------------------------------------------------------------------------------------

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g;

/**
 * An object's members, and for those of the outermost object the text of their values: `{members, texts}`.
 * `JSON.parse` keeps the last of two equal members and rounds numbers in silence.
 */
export function readObject(text, maxDepth, what) {
  const members = parseJson(text, what);
  demand(isObject(members), `${what} is not a JSON object`);
  const tokens = text.match(TOKEN);
  const open = []; // the names seen so far in each object that is open; null for an array
  const texts = new Map();
  tokens.forEach((token, at) => {
    if (token === "{" || token === "[") {
      open.push(token === "{" ? new Set() : null);
      demand(open.length <= maxDepth, `${what} is nested deeper than ${maxDepth} levels`);
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (token.startsWith('"') && tokens[at + 1] === ":") {
      const name = JSON.parse(token);
      demand(!open.at(-1).has(name), `a member appears twice in ${what}`);
      open.at(-1).add(name);
      if (open.length === 1) texts.set(name, tokens[at + 2]);
    }
  });
  return { members, texts };
}

// --- JSON in the one encoding of payloads -----------------------------------------------------------------------------

const MAX_PAYLOAD_DEPTH = 8;

/** The object that these bytes hold, if they are the one encoding of it. */
export function decodeCanonical(bytes, what) {
  const text = decodeUtf8(bytes, what);
  const value = parseJson(text, what);
  demand(isObject(value), `${what} is not a JSON object`);
  demand(encodeCanonical(value, 0) === text, `${what} is not in its one encoding`);
  return value;
}

function encodeCanonical(value, depth) {
  demand(depth <= MAX_PAYLOAD_DEPTH, "JSON nested too deeply");
  if (value === true) return "true";
  if (typeof value === "string") return encodeText(value);
  if (typeof value === "number") {
    demand(Number.isSafeInteger(value) && value !== 0, "a number that payloads do not hold");
    return String(value);
  }
  demand(typeof value === "object" && value !== null, "null or false: a member at its default");
  if (Array.isArray(value)) {
    demand(value.length > 0, "an empty array is a member at its default");
    return `[${value.map((inner) => encodeCanonical(inner, depth + 1)).join(",")}]`;
  }
  const names = Object.keys(value).sort(byCodePoint);
  demand(names.length > 0 || depth === 0, "an empty object is a member at its default");
  return `{${names.map((name) => `${encodeText(name)}:${encodeCanonical(value[name], depth + 1)}`).join(",")}}`;
}

/** `JSON.stringify` escapes as payloads do, but for half surrogate pairs, which they do not hold. */
function encodeText(text) {
  demand(text !== "" && !/\p{Surrogate}/u.test(text), "an empty text, or half a surrogate pair");
  return JSON.stringify(text);
}

function byCodePoint(a, b) {
  const [left, right] = [Array.from(a), Array.from(b)];
  const at = left.findIndex((character, i) => character !== right[i]);
  if (at === -1) return left.length - right.length;
  return right[at] === undefined ? 1 : left[at].codePointAt(0) - right[at].codePointAt(0);
}
