// The calls of the ledger that a website's page makes with its publishable key.

const TIMEOUT_MS = 10_000;

/** An answer that is no success. `problem` is the ledger's own words (RFC 9457), or null where it did not answer. */
export class Refused extends Error {
  constructor(problem, cause) {
    super(problem?.detail ?? "The ledger did not answer. Is it running?", { cause });
    this.problem = problem;
  }

  /** Whether the visitor, or the event, was forgotten: a page mints a new visitor id then. */
  get gone() {
    return this.problem?.status === 410;
  }

  /** Whether the same request may succeed later. */
  get temporary() {
    return this.problem === null || this.problem.status >= 500 || [408, 429].includes(this.problem.status);
  }
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS), credentials: "omit" });
  } catch (cause) {
    throw new Refused(null, cause);
  }
  let body = null;
  try {
    body = await response.json();
  } catch (cause) {
    throw new Refused(null, cause);
  }
  if (!response.ok) throw new Refused(body);
  return { body, response };
}

/** `{site: {publishable, logId, logVkey}}` of the demonstration. */
export async function loadSites() {
  return (await call("/web/config.json")).body.sites;
}

/** One website's part of the ledger. */
export class Client {
  constructor(site, publishable) {
    this.site = site;
    this.base = `/v1/sites/${encodeURIComponent(site)}`;
    this.headers = { Authorization: `Bearer ${publishable}` };
  }

  async policy() {
    return (await call(`${this.base}/policy`)).body;
  }

  /** A document that the policy names, like the notice that visitors are shown. */
  async document(sha256) {
    return (await call(`/documents/${sha256}`)).body;
  }

  /**
   * Post an event. The same event may be sent as often as need be; only `sentAt` is new each time. With `proven` the
   * answer waits for a checkpoint that covers it, and the receipt holds its proof, unless that takes too long.
   */
  async record(event, { proven = false } = {}) {
    const { body, response } = await call(`${this.base}/events${proven ? "?wait=checkpoint" : ""}`, {
      method: "POST",
      headers: { ...this.headers, "Content-Type": "application/json" },
      body: JSON.stringify({ ...event, sentAt: new Date().toISOString() }),
    });
    const replayed = response.headers.get("Idempotent-Replayed") === "true";
    return { receipt: body, status: response.status, replayed };
  }

  /** The visitor's decisions, at least as of `position`. */
  async consent(visitor, { position, gpc }) {
    const headers = { ...this.headers, "Consent-Visitor": visitor };
    if (position) headers["Consent-Min-Position"] = position;
    return (await call(`${this.base}/consent${gpc ? "?gpc=1" : ""}`, { headers })).body;
  }

  async post(path, body, headers = {}) {
    const sent = { ...this.headers, ...headers, "Content-Type": "application/json" };
    return (await call(`${this.base}/${path}`, { method: "POST", headers: sent, body: JSON.stringify(body) })).body;
  }

  /** What the browser has to sign so that a request `{visitor, kind}` is made, or one `{visitor, id}` is shown. */
  challenge(asked) {
    return this.post("requests", asked);
  }

  prove(id, proof) {
    return this.post(`requests/${id}/proof`, proof);
  }

  /** How a request stands. */
  async request(id, token) {
    return (await call(`${this.base}/requests/${id}`, { headers: { ...this.headers, "Consent-Request-Token": token } })).body;
  }

  /** A link `{url}` that fetches what was asked for, once. */
  download(id, token, wanted) {
    return this.post(`requests/${id}/download`, wanted, { "Consent-Request-Token": token });
  }
}
