// Ed25519 as the ledger demands it (proto/SPEC.md, sections 9 and 10). The browser's WebCrypto decides the equation; the
// arithmetic here refuses the keys and signatures about which libraries differ.

const P = 2n ** 255n - 19n;
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const PUBLIC_BYTES = 32;
const SIGNATURE_BYTES = 64;

const mod = (n) => ((n % P) + P) % P;

function power(base, exponent) {
  let result = 1n;
  for (let square = mod(base), rest = exponent; rest > 0n; rest >>= 1n, square = mod(square * square)) {
    if (rest & 1n) result = mod(result * square);
  }
  return result;
}

const D = mod(-121665n * power(121666n, P - 2n));
const SQRT_M1 = power(2n, (P - 1n) / 4n);

const littleEndian = (bytes) => BigInt(`0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).reverse().join("")}`);

/** The point of a canonical encoding (RFC 8032 section 5.1.3) in extended coordinates, or null. */
function decodePoint(bytes) {
  const number = littleEndian(bytes);
  const [sign, y] = [number >> 255n, number & (2n ** 255n - 1n)];
  if (y >= P) return null;
  const square = mod((y * y - 1n) * power(D * y * y + 1n, P - 2n));
  let x = power(square, (P + 3n) / 8n);
  if (mod(x * x - square) !== 0n) x = mod(x * SQRT_M1);
  if (mod(x * x - square) !== 0n || (x === 0n && sign === 1n)) return null;
  if ((x & 1n) !== sign) x = P - x;
  return [x, y, 1n, mod(x * y)];
}

function addPoints([x1, y1, z1, t1], [x2, y2, z2, t2]) {
  const [a, b] = [mod((y1 - x1) * (y2 - x2)), mod((y1 + x1) * (y2 + x2))];
  const [c, d] = [mod(2n * t1 * t2 * D), mod(2n * z1 * z2)];
  const [e, f, g, h] = [b - a, d - c, d + c, b + a];
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

const isNeutral = ([x, y, z]) => x === 0n && y === z;

/** Whether 32 bytes are the canonical encoding of a point of prime order. */
export function isAcceptable(bytes) {
  const point = bytes.length === PUBLIC_BYTES ? decodePoint(bytes) : null;
  if (point === null || isNeutral(point)) return false;
  let sum = [0n, 1n, 1n, 0n];
  for (let rest = ORDER, doubled = point; rest > 0n; rest >>= 1n, doubled = addPoints(doubled, doubled)) {
    if (rest & 1n) sum = addPoints(sum, doubled);
  }
  return isNeutral(sum);
}

const importPublic = (bytes) => crypto.subtle.importKey("raw", bytes, { name: "Ed25519" }, false, ["verify"]);

/**
 * Whether `publicKey` (of prime order) made `signature` over `message`.
 *
 * Without the cofactor a signature can only hold if its R is a canonical point of prime order, as S·B - k·A is one. So
 * demanding that of R, and an S below the order, makes every implementation of the equation agree with that one.
 */
export async function verifies(publicKey, message, signature) {
  if (signature.length !== SIGNATURE_BYTES || publicKey.length !== PUBLIC_BYTES) return false;
  if (littleEndian(signature.slice(32)) >= ORDER || !isAcceptable(signature.slice(0, 32))) return false;
  return crypto.subtle.verify({ name: "Ed25519" }, await importPublic(publicKey), signature, message);
}

// RFC 8032 section 7.1, test 3.
const KNOWN = {
  publicKey: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
  message: "af82",
  signature:
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac" +
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
};

const bytesOf = (hex) => Uint8Array.from(hex.match(/../g), (pair) => Number.parseInt(pair, 16));

/** Whether this browser's WebCrypto verifies Ed25519, tried on a known answer and on a false one. */
export async function hasEd25519() {
  const [publicKey, message, signature] = [KNOWN.publicKey, KNOWN.message, KNOWN.signature].map(bytesOf);
  try {
    const right = await verifies(publicKey, message, signature);
    const wrong = await verifies(publicKey, new Uint8Array([0xaf, 0x83]), signature);
    return right && !wrong;
  } catch {
    return false; // no WebCrypto on this page, or one that does not know Ed25519
  }
}
