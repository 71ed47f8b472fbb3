// Who a browser is to a website, so that it can prove it later: the visitor id is the hash of a key that never leaves.
//
// For other pages to take over as it is: no imports, no document, no network. `mint()` gives a new visitor id, which the
// page keeps where it keeps its own (a cookie, sessionStorage); the private key lies in IndexedDB, not extractable, under
// that id. `answer()` signs the ledger's challenge (proto/SPEC.md, "Subject requests"). A browser without Ed25519 or
// IndexedDB gets a random id: everything works with it but proving whose it is.

const DATABASE = "consent-identity";
const STORE = "keys";
const LABEL = "consent-ledger/v1 subject request";

/** A new visitor: `{visitor, provable}`. */
export async function mint() {
  try {
    const keys = await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
    const visitor = base64url(await crypto.subtle.digest("SHA-256", await exported(keys)));
    await inStore("readwrite", (store) => store.put({ visitor, keys, mintedAt: Date.now() }));
    return { visitor, provable: true };
  } catch (unable) {
    console.info("this browser can keep no key, so its visitor id can not be proven:", unable?.name);
    return { visitor: base64url(crypto.getRandomValues(new Uint8Array(16)).buffer), provable: false };
  }
}

/** Whether this browser holds the key of the id. */
export async function canProve(visitor) {
  return (await kept(visitor)) !== undefined;
}

/**
 * The answer to a challenge `{id, origin, nonce}` of the ledger: `{nonce, publicKey, signature}`, to be posted as it is.
 *
 * `origin` is the log's, as the page knows it by itself: what another ledger asks for is not signed. Throws where the
 * browser does not hold the key.
 */
export async function answer(visitor, challenge, origin) {
  const row = await kept(visitor);
  if (row === undefined) throw new Error("this browser does not hold the key of this visitor id");
  if (challenge.origin !== origin) throw new Error("the challenge is of another log");
  const signed = `${LABEL}\n${origin}\n${challenge.id}\n${challenge.nonce}\n`;
  const signature = await crypto.subtle.sign({ name: "Ed25519" }, row.keys.privateKey, new TextEncoder().encode(signed));
  return { nonce: challenge.nonce, publicKey: base64(await exported(row.keys)), signature: base64(signature) };
}

/** Forget the key of an id: nobody can prove to be that visitor any more. */
export async function forget(visitor) {
  await inStore("readwrite", (store) => store.delete(visitor)).catch(() => undefined);
}

/** Forget keys that were minted before a time (in ms since 1970): of tabs that were closed long ago. */
export async function forgetOlder(time) {
  const rows = await inStore("readonly", (store) => store.getAll()).catch(() => []);
  for (const row of rows) if (row.mintedAt < time) await forget(row.visitor);
}

const exported = (keys) => crypto.subtle.exportKey("raw", keys.publicKey);
const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
const base64url = (buffer) => base64(buffer).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const kept = (visitor) => inStore("readonly", (store) => store.get(visitor)).catch(() => undefined);

/** The result of one request to the store, once its transaction is through. */
function inStore(mode, ask) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "visitor" });
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction(STORE, mode);
      const asked = ask(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onabort = () => reject(transaction.error);
      transaction.addEventListener("complete", () => opening.result.close());
    };
  });
}
