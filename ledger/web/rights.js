// What a person may ask for from this browser: what is held of them, to take it along, to have it put right, to object,
// and to be forgotten. The browser proves with the key of its visitor id that it is this visitor; then the request is
// followed until it is answered.

import { Refused } from "./client.js";
import { commandBlock } from "./commands.js";
import { el } from "./dom.js";
import { answer, canProve } from "./identity.js";

const LOOK_MS = 2_000;
export const KINDS = ["access", "portability", "correction", "objection", "erasure"];
const FETCHED = ["access", "portability"];
const STATES = {
  proven: "This browser proved to be the visitor. Now the controller has to be told.",
  forwarded: "The controller was told, and has to instruct.",
  instructed: "The controller instructed to do it.",
  refused: "Refused by the controller.",
};
const DONE = {
  access: "Your data can be fetched.",
  portability: "Your data can be fetched.",
  correction: "Answered. What counts is the newest choice that you made.",
  objection: "Answered. What counts is the newest choice that you made.",
  erasure: "Done: what the ledger held of you is gone, or put out of use where it has to be kept.",
};
// What nobody can do for the visitor: only an own act says yes or no.
const OWN = {
  correction: ["Nothing that is recorded is rewritten. Make the choice anew: the newest counts.", "Choose anew"],
  objection: ["Your objection is a no of your own. Say it now: it counts whatever the controller answers.", "Say no to everything"],
};
const REASONS = { complexity: "the request is complex", number_of_requests: "there are many requests" };
const TOKEN_REFUSED = "request-token-refused";

const $ = (id) => document.getElementById(id);

/**
 * The rights of one visitor of one site. `page` is the rest of the page: `say` and `complain` tell, `remember(request)`
 * keeps what is to survive a reload, `ask()` finds out once an erasure is done whether the visitor was forgotten (who is
 * restricted keeps the key), `act(kind)` does what is the visitor's own to do about an objection or a correction.
 */
export class Rights {
  constructor(client, origin, visitor, request, page) {
    this.client = client;
    this.origin = origin;
    this.visitor = visitor;
    this.request = request; // {id, kind, visitor, token, status}, or null
    this.page = page;
    this.timer = null;
  }

  /** Show how things stand, and go on following a request. */
  async open() {
    const provable = await canProve(this.visitor);
    $("rights-proof").textContent = provable
      ? "This browser holds the key whose hash is the visitor id, so it can prove to be this visitor. The id alone proves nothing."
      : "This browser keeps no key for its visitor id, so it can prove nothing. Turn to the controller, who can find out otherwise who you are.";
    for (const kind of KINDS) $(`ask-${kind}`).disabled = !provable;
    this.show();
    this.follow();
  }

  /** Stop following: the page shows another visitor. */
  close() {
    clearTimeout(this.timer);
    this.timer = null;
    this.closed = true;
  }

  /** Make a request. The challenge is answered here. */
  async make(kind) {
    await this.attempt(async () => {
      await this.prove({ kind });
      this.page.say("This browser proved to be the visitor: the request is in the register.");
    });
  }

  /** Do what is the visitor's own part in the request. */
  act() {
    return this.page.act(this.request.kind);
  }

  /** Whether this browser can still prove to be who made the request. */
  async provable() {
    return this.request.visitor === this.visitor && (await canProve(this.visitor));
  }

  async prove(asked) {
    const challenge = await this.client.challenge({ visitor: this.visitor, ...asked });
    const proven = await this.client.prove(challenge.id, await answer(this.visitor, challenge, this.origin));
    const { request: status, token } = proven;
    this.keep({ id: status.id, kind: status.kind, visitor: this.visitor, token, status });
  }

  keep(request) {
    if (this.closed) return;
    const ended = this.request?.status.closedAt === undefined && request.status.closedAt !== undefined;
    this.request = request;
    this.page.remember(request);
    this.show();
    this.follow();
    const erased = request.kind === "erasure" && request.status.state === "answered";
    if (ended && erased && request.visitor === this.visitor) this.page.ask();
  }

  follow() {
    clearTimeout(this.timer);
    if (this.closed || this.request === null || this.request.status.closedAt !== undefined) return;
    this.timer = setTimeout(() => this.look(), LOOK_MS);
  }

  /** How the request stands now. A token that has expired is renewed by a new proof. */
  async look() {
    await this.attempt(async () => {
      try {
        this.keep({ ...this.request, status: await this.client.request(this.request.id, this.request.token) });
      } catch (error) {
        const expired = error instanceof Refused && error.problem?.type.endsWith(TOKEN_REFUSED);
        if (!expired || !(await this.provable())) throw error;
        await this.prove({ id: this.request.id });
      }
    });
    this.follow();
  }

  /** Fetch what is held: the link works once, so it is used at once. */
  async download(wanted) {
    await this.attempt(async () => {
      const { url } = await this.client.download(this.request.id, this.request.token, wanted);
      el("a", { href: url, download: "" }).click();
      this.page.say("The download has begun.");
      await this.look();
    });
  }

  async attempt(work) {
    try {
      await work();
      this.page.complain(null);
    } catch (error) {
      if (this.closed) return;
      if (!(error instanceof Refused)) throw error;
      this.page.complain(error);
    }
  }

  show() {
    const { request } = this;
    $("request").hidden = request === null;
    if (request === null) return;
    const { status, kind, id } = request;
    $("request").dataset.state = status.state;
    const open = status.closedAt === undefined;
    $("request-title").textContent = $(`ask-${kind}`).textContent;
    $("request-state").textContent = status.state === "answered" ? DONE[kind] : STATES[status.state];
    $("request-due").textContent = due(status);
    $("request-id").textContent = id;
    $("request-own").hidden = !(open && kind in OWN);
    [$("request-hint").textContent, $("request-act").textContent] = OWN[kind] ?? ["", ""];
    $("request-steps").replaceChildren(
      ...(status.steps ?? []).map((step) =>
        el("li", {}, `${step.at.slice(11, 19)} UTC: ${step.step === "extend" ? "put off" : step.state}, by the ${step.by}`, step.reason ? el("span", { class: "fine" }, ` (${step.reason})`) : null),
      ),
    );
    $("request-fetch").hidden = !(FETCHED.includes(kind) && ["instructed", "answered"].includes(status.state));
    $("request-page").hidden = kind !== "access";
    const lead = stepsLeft(status).map(([step, ...rest]) => ["consent-ledger request", step, this.client.site, id, ...rest].join(" "));
    $("request-commands").replaceChildren(...(lead.length ? [commandBlock("As the controller, in a terminal", lead.join(" &&\n"))] : []));
  }
}

/** By when, and since when it is so. */
function due({ dueAt, extendedFrom, late, steps }) {
  const told = (time) => `${time.slice(0, 16).replace("T", " ")} UTC`;
  if (extendedFrom === undefined) return `${told(dueAt)}${late ? ", which has passed" : ""}`;
  const { reason } = steps.find(({ step }) => step === "extend");
  return `${told(dueAt)}${late ? ", which has passed" : ""}; put off from ${told(extendedFrom)}, as ${REASONS[reason]}`;
}

/** What the controller's people have to do, as words of the command line. The ledger itself sees what was erased or fetched. */
function stepsLeft({ kind, state }) {
  const steps = [["forward"], ["instruct", "--instruction DEMO-1"], ...(kind in OWN ? [["answer"]] : [])];
  const taken = { proven: 0, forwarded: 1, instructed: 2 }[state] ?? steps.length;
  return steps.slice(taken);
}
